"""The commands inside sentences and tables of README and the docs, and what shows that each of them works.

:mod:`tests.e2e.test_docs` fails for a command that is in neither table, and for a row that no page needs any more.
Commands of blocks need no row: each page's blocks are typed as one session, those for Docker by ``tests/compose``.
"""

#: What a page says -> what is typed for it, at a fleet with one worker; words that stand for something are replaced.
TYPED_HERE = {
    'make demo IMAGES="a.jpg b.png"': 'make -s -o .venv/.runtime demo IMAGES="holiday/a.jpg photo.png"',
    'make demo IMAGES="me.jpg you.png"': 'make -s -o .venv/.runtime demo IMAGES="photo.jpg photo.png"',
    "make demo": "make -s -o .venv/.runtime demo IMAGES=photo.jpg",
    "make site": "make -n site",
    "fleet detect": "fleet detect photo.jpg",
    "fleet detect holiday/": "fleet detect holiday/",
    "fleet status": "fleet status",
    "fleet dead list": "fleet dead list",
    "fleet-worker doctor": "fleet-worker doctor",
    "fleet-worker models check": "fleet-worker models check centerface photo.jpg",
    "fleet-worker models fetch blazeface_short": "fleet-worker models fetch blazeface_short",
    "celery -A worker.app inspect fleet": "celery -A worker.app inspect fleet",
    "celery -A worker.app inspect active_queues": "celery -A worker.app inspect active_queues",
    'eval "$(_FLEET_COMPLETE=bash_source fleet)"': 'eval "$(_FLEET_COMPLETE=bash_source fleet)"',
    'eval "$(_FLEET_COMPLETE=zsh_source fleet)"': "_FLEET_COMPLETE=zsh_source fleet | grep compdef",  # no zsh here
    "_FLEET_COMPLETE=fish_source fleet | source": "_FLEET_COMPLETE=fish_source fleet | grep fleet",
}

#: What a page says -> the tests that run it, because it needs more than a fleet at rest.
ELSEWHERE = {
    "celery -A worker.app worker": ["tests/integration/test_start.py"],
    "celery -q": ["tests/integration/test_start.py"],
    "fleet-worker run": ["tests/integration/test_start.py"],
    "celery -A worker.app control -d NAME swap_model cars@2": ["tests/swap/test_swap.py"],
    "fleet-worker models swap cars@2": ["tests/swap/test_swap.py"],
    "fleet autoscale": ["tests/integration/producer/test_cli_autoscale.py", "tests/compose/test_docs_with_docker.py"],
    "fleet dead list | show ID [--save DIR] | replay ID... | drop ID...": [
        "tests/integration/producer/test_dead_list.py"
    ],
    "fleet dead replay ID": ["tests/integration/producer/test_dead_list.py"],
    "fleet dead show ID": ["tests/integration/producer/test_dead_list.py"],
    "fleet dead show ID --save DIR": ["tests/integration/producer/test_dead_list.py"],
    "fleet top": ["tests/integration/test_top.py"],
    "fleet watch": ["tests/integration/producer/test_watch.py"],
    "fleet-worker bench --model M --images DIR": ["tests/e2e/test_bench.py"],
    "fleet-worker health": ["tests/integration/test_logs_and_health.py"],
    "fleet-worker health --live": ["tests/integration/test_logs_and_health.py"],
    "fleet-worker timeline": ["tests/integration/test_timeline.py"],
    "fleet-worker local --workers N": ["tests/e2e/test_docs.py"],  # in sessions, as --workers 2
    "make bench": ["tests/e2e/test_bench.py"],  # hours; the test is a short form
    'make bench BENCH="--rounds 2 --seconds 1"': ["tests/e2e/test_bench.py"],
    'make bench BENCH="--rounds 5 --seconds 4"': ["tests/e2e/test_bench.py"],
    "python -m benchmarks --model centerface --rounds 5 --seconds 4": ["tests/e2e/test_bench.py"],
    "python -m benchmarks --model centerface --rounds 5 --seconds 4 --only limit --only asynchronous --only fleet "
    "--only mosec": ["tests/e2e/test_bench.py"],
    "make fuzz": ["tests/hostile/test_unseen_corpus.py", "tests/property/test_decode_fuzz.py"],  # needs atheris
    "python -m tests.soak.run --images 20000 --per-s 60 --every-s 4 --seed N": ["tests/soak/test_a_short_soak.py"],
    "make soak": ["tests/soak/test_a_short_soak.py"],  # twenty minutes; the test is a short form
    'pip install ".[local]"': ["tests/e2e/test_packaging.py"],
    "pip install .": ["tests/e2e/test_extras.py"],
    "promtool test rules alerts.test.yml": ["tests/prometheus/test_prometheus.py"],
    "docker compose --profile observability up -d": ["tests/prometheus/test_prometheus.py"],  # without containers
    "docker compose ps": ["tests/compose/test_docs_with_docker.py"],
    "python -m benchmarks.batching --rounds 5 --seconds 1": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.cold_start --rounds 9": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.slices --workers 1 --workers 2 --workers 4 --slice-ms 20 --slice-ms 100": [
        "tests/e2e/test_bench.py"
    ],
    'python -m benchmarks.alive --rounds 7 --with "fleet: 1 worker" --with ...': ["tests/e2e/test_bench.py"],
    "python -m benchmarks.alive": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.trees ../before .": ["tests/e2e/test_bench.py"],  # of one tree, with two settings
    "python -m benchmarks.trees ../before . --model blazeface_short --rounds 24": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.growth backlog": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.growth payload": ["tests/e2e/test_bench.py"],
    "python -m benchmarks.growth workers": ["tests/e2e/test_bench.py"],
}

#: What a page says -> why nothing of ours runs it.
BY_HAND = {
    ".ci/run": "runs this very suite",
    "make test": "is this very suite",
    "make check": "is run by .ci/run, after the suite",
    "python -m benchmarks.jpeg_scale": "measures; takes minutes of a quiet machine",
    "python -m benchmarks.quota": "measures; needs root, for a control group of its own",
    'python -m benchmarks --model centerface --only prefork --only "fleet: 1 worker"': "measures for minutes",
    'FLEET_BATCH=4 python -m benchmarks --only "limit: streams" --only "fleet: 1 worker"': "measures for minutes",
    'python -m benchmarks --rounds 5 --seconds 2 --only "limit: streams" --only peer --only "worker per core"': (
        "measures for minutes, in environments of their own"
    ),
    "make lock": "changes the lock files by asking a package index",
    "apt install chromium-driver": "changes the machine; .ci/run does it",
    "apt install prometheus": "changes the machine; .ci/run does it",
    "docker compose": "names the program",
    "docker compose exec worker": "is half a command; tests/compose types whole ones",
    "docker inspect": "names the program",
    "kubectl label namespace shop detection-fleet/client=true": "needs a cluster",
    "pip-audit --require-hashes --disable-pip -r requirements-image.lock": "asks an advisory service",
}
