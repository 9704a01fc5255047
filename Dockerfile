# The worker's image; Flower runs from it as well. Dependencies and models come before the code, so that a build after
# a change of code takes seconds.
FROM python:3.12-slim AS dependencies
WORKDIR /src
COPY requirements-image.lock ./
RUN python -m venv /opt/fleet \
 && /opt/fleet/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile --require-hashes -r requirements-image.lock

FROM dependencies AS models
ARG MODELS="centerface blazeface_short"
COPY worker/__init__.py worker/assets.py worker/models.py worker/model_toml.py worker/resize.py ./worker/
RUN /opt/fleet/bin/python -c "import sys, pathlib; from worker import models; [models.fetch(name, pathlib.Path('/models')) for name in sys.argv[1:]]" $MODELS

FROM dependencies AS code
COPY pyproject.toml README.md LICENSE celeryconfig.py ./
COPY producer ./producer
COPY worker ./worker
RUN /opt/fleet/bin/pip install --disable-pip-version-check --no-cache-dir --no-deps --no-build-isolation . \
 && mkdir /package && cd /opt/fleet/lib/python3.12/site-packages \
 && cp -r --parents producer worker detection_fleet-*.dist-info /package/ \
 && mkdir /scripts && cp /opt/fleet/bin/fleet /opt/fleet/bin/fleet-worker /scripts/

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fleet && mkdir /cache && chown fleet /cache
COPY --from=dependencies /opt/fleet /opt/fleet
COPY --from=models /models /models
COPY --from=code /package /opt/fleet/lib/python3.12/site-packages/
COPY --from=code /scripts /opt/fleet/bin/
ENV PATH=/opt/fleet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEET_MODEL_STORE=/models \
    FLEET_CACHE_DIR=/cache
# By number, so that an orchestrator can see that it is not root.
USER 10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
# The same as `fleet-worker health` (ready), without starting Python every few seconds. Whether it lives, which is what
# a restart should hang on, the file without ".ready" says.
HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=3 \
    CMD test "$(( $(date +%s) - $(stat -c %Y /tmp/fleet-worker.health.ready || echo 0) ))" -lt 20
CMD ["python", "-P", "-m", "worker", "--loglevel", "INFO", "--hostname", "detect@%h"]
