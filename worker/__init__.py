"""The worker side of the detection fleet: Celery workers that keep an asynchronous OpenVINO queue full."""
