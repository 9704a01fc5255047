"""What README's figures come from: :mod:`worker.bench` with Celery alone and other servers as further contenders."""
