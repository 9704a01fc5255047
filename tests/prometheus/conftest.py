"""A real Prometheus that reads a real worker.

Where none is installed (``apt install prometheus``) nothing here is collected; tests/integration/test_metrics.py tests
as well that dashboard, rules and worker name the same metrics.
"""

import shutil

collect_ignore_glob = [] if shutil.which("prometheus") and shutil.which("promtool") else ["test_*.py"]
