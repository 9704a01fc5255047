"""Celery's own keys, one line of why each. What follows from ``FLEET_*`` is in ``worker/app.py``."""

# The pool that keeps OpenVINO's queue full; prefork would run one inference per process and wait for it.
worker_pool = "worker.pool:DetectionPool"
# Comes back from every loss of the broker; Celery's own ends the worker when the old connection cannot be closed.
worker_consumer = "worker.consumer:FleetConsumer"
# Says why there is no --autoscale, in one sentence.
worker_autoscaler = "worker.fixed:NoAutoscaler"
# Two rounds of jobs per worker: the next is at hand when one ends, and little comes back when a worker dies.
worker_prefetch_multiplier = 2

# A job is acknowledged when its result is stored, so that a worker's death loses nothing.
task_acks_late = True
# A job that comes a second time after it was answered is recognised, not done again.
worker_deduplicate_successful_tasks = True
# Jobs in flight when the broker goes away finish and store their results.
worker_cancel_long_running_tasks_on_connection_loss = False
# A worker waits for a broker that is not there yet, and comes back to one that went away.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A connection that a firewall forgot gives no sign: these many seconds without an answer, and it is made anew.
redis_backend_health_check_interval = 3
redis_socket_timeout = 2.5
redis_socket_connect_timeout = 3
redis_socket_keepalive = True
# What Redis refuses while it is full, loads its data or changes its master is asked again; the worker does not end.
broker_channel_error_retry = True

# Nothing that could carry code: never pickle.
accept_content = ["json", "msgpack"]
result_accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

# A result that cannot be stored because Redis is away is stored when it is back; by default the job would fail.
result_backend_always_retry = True
result_backend_max_sleep_between_retries_ms = 2000

# These write when memory is full as well, for only ended jobs make room; see the module.
override_backends = {
    "redis": "worker.results:Results",
    "rediss": "worker.results:Results",
    "sentinel": "worker.results:SentinelResults",
}

# Results are read soon; Redis is not an archive.
result_expires = 3600
# One connection pool for all threads that store results.
result_backend_thread_safe = True
# Flower and `celery events` see the jobs without a flag.
worker_send_task_events = True
# Times on the wire are UTC.
enable_utc = True
timezone = "UTC"
