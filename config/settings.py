"""All settings, in one file. Everything that differs between places is an environment variable."""

import os
from pathlib import Path
from typing import Any

from checkout.clock import Ages
from config.env import (
    env_bool,
    env_choice,
    env_database,
    env_int,
    env_list,
    env_seconds,
    env_seconds_list,
    env_secret,
    env_secret_or_none,
    env_str,
    env_time,
    env_usd,
    env_zone,
)
from config.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where this process runs -------------------------------------------------------------------
ENVIRONMENT = env_choice("ENVIRONMENT", "production", ("local", "test", "staging", "production"))
PRODUCTION = ENVIRONMENT == "production"
LOCAL = ENVIRONMENT in {"local", "test"}
DEBUG = False
SECRET_KEY = env_secret("SECRET_KEY")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "127.0.0.1,localhost" if LOCAL else "")

# --- Django ------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "checkout",
    "settlements",
]
MIDDLEWARE = [
    "checkout.http.bounded",
    "checkout.http.unless_left",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "config.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = LOCAL
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

# --- Security ----------------------------------------------------------------------------------
SECURE_SSL_REDIRECT = not LOCAL and env_bool("SECURE_SSL_REDIRECT", default=True)
SECURE_PROXY_SSL_HEADER = None if LOCAL else ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if LOCAL else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not LOCAL
# An orchestrator probes and Prometheus scrapes inside the cluster, where there is no TLS.
SECURE_REDIRECT_EXEMPT = ["^livez$", "^readyz$", "^metrics$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not LOCAL
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

# --- Names ---------------------------------------------------------------------------------------
# No connect time-out covers a look-up: the C library waits 5 s for a silent name server, twice, which is twice a
# request's deadline. It reads this at the process's first look-up; who sets it himself keeps his own.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")

# --- PostgreSQL: the one truth -------------------------------------------------------------------
# What each of them bounds is tested in tests/integration/test_silence.py. The server's own time-outs stand in a
# migration, on the database: a pooler drops or leaks what a session sets (MEASURED, PostgreSQL).
_DATABASE_OPTIONS: dict[str, Any] = {
    # Seconds for one address. A sign-in is four round trips: at 500 ms each (F20) two seconds are too few,
    # and nobody would ever be connected. With two tries a request still ends about its deadline.
    "connect_timeout": 3,
    # Milliseconds until sent bytes that nobody acknowledged end the connection: a machine that vanished
    # while we ask it something.
    "tcp_user_timeout": 3000,
    # The same while we wait for its answer: noticed after 5 + 2 × 2 seconds.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    # With several hosts, libpq takes the one that accepts writes; it resolves names at every connect.
    "target_session_attrs": "read-write",
    "sslmode": env_str("DATABASE_SSLMODE", "prefer" if LOCAL else "verify-full"),
}


def _database(name: str, default: str | None = None) -> dict[str, Any]:
    return env_database(name, default) | {
        # Connections are kept between requests (2.5 times the throughput), asked at the start of each
        # request whether they still live, and made anew every minute, which follows a moved name.
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": _DATABASE_OPTIONS,
        # PgBouncer in transaction mode loses WITH HOLD cursors (MEASURED, PostgreSQL).
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


DATABASES = {"default": _database("DATABASE_URL")}
# Session advisory locks need a direct connection: the relays and the timetable use this one.
DATABASE_DIRECT_URL = env_str("DATABASE_DIRECT_URL", env_str("DATABASE_URL"))

# --- SQS, Kafka, processor -----------------------------------------------------------------------
SQS_ENDPOINT_URL = env_str("SQS_ENDPOINT_URL", "")
AWS_REGION = env_str("AWS_REGION", "us-east-1")
AWS_ACCESS_KEY_ID = env_str("AWS_ACCESS_KEY_ID", "")
AWS_SECRET_ACCESS_KEY = env_str("AWS_SECRET_ACCESS_KEY", "")
SQS_QUEUE = env_str("SQS_QUEUE", "checkout-payments.fifo")
SQS_DEAD_LETTER_QUEUE = env_str("SQS_DEAD_LETTER_QUEUE", "checkout-payments-dlq.fifo")
SQS_WAIT_SECONDS = env_int("SQS_WAIT_SECONDS", 10)
KAFKA_BOOTSTRAP_SERVERS = env_str("KAFKA_BOOTSTRAP_SERVERS")
KAFKA_REPLICATION_FACTOR = env_int("KAFKA_REPLICATION_FACTOR", 1 if LOCAL else 3)
KAFKA_PARTITIONS = env_int("KAFKA_PARTITIONS", 6 if LOCAL else 12)
# How long the producer tries to deliver one message; a relay that follows a killed one waits as long.
KAFKA_MESSAGE_TIMEOUT = env_seconds("KAFKA_MESSAGE_TIMEOUT", 10)
PROCESSOR_URL = env_str("PROCESSOR_URL")
PROCESSOR_API_KEY = env_secret("PROCESSOR_API_KEY")
PROCESSOR_WEBHOOK_SECRET = env_secret("PROCESSOR_WEBHOOK_SECRET")
# A lane is one processor account for one set of countries; the rules (RoutingRule) name lanes.
LANES = {
    lane: {"processor": "sandbox", "account": lane}
    for lane in env_list("LANES", "cis,south-asia,africa,mena,latam,europe,apac")
}

# --- Statements ----------------------------------------------------------------------------------
# A folder that is looked at for files of processors (LANE/name) and banks (bank/name); empty is none.
STATEMENTS_PREFIX = env_str("STATEMENTS_PREFIX", "")
# Our accounts at banks (IBAN or the bank's own number), comma separated: a statement of another, brought by hand or put
# into the folder, proves no payout. "any" takes every account for ours.
BANK_ACCOUNTS = env_list("BANK_ACCOUNTS", "any" if LOCAL else "")
# Bytes of a file, packed and unpacked, and how many times more may come out than went in; those accounts.
STATEMENT_BOUNDS: dict[str, Any] = {
    "accounts": None if BANK_ACCOUNTS == ["any"] else frozenset(BANK_ACCOUNTS),
    "largest_bytes": env_int("STATEMENT_LARGEST_BYTES", 1 << 30),
    "largest_ratio": env_int("STATEMENT_LARGEST_RATIO", 200),
}
# A file uploaded in the admin waits in the database for its confirmation; larger ones go by command.
STATEMENT_UPLOAD_BYTES = env_int("STATEMENT_UPLOAD_BYTES", 16 << 20)

# --- Exports ---------------------------------------------------------------------------------------
# Where `manage.py export_worker` puts the files that pages ask for; the web processes read them there. Without it
# no page offers an export.
EXPORTS_FOLDER = env_str("EXPORTS_FOLDER", "")
# A file is removed so many days after it was made; its row stays.
EXPORTS_KEPT_DAYS = env_int("EXPORTS_KEPT_DAYS", 30)

# --- Time ----------------------------------------------------------------------------------------
CLOCK_FILE = env_str("CLOCK_FILE", "")
if CLOCK_FILE and not LOCAL:
    raise SystemExit("CLOCK_FILE moves the business clock; it is refused outside local and test")


# Finance works in one zone; its pages show it beside UTC.
FINANCE_ZONE = env_zone("FINANCE_ZONE", "UTC")
# When the nightly pass over everything is due, in that zone.
RECONCILE_FULL_AT = env_time("RECONCILE_FULL_AT", "01:00")

# Above either, a bulk requeue waits for a second person: charges, and their USD.
REQUEUE_LIMIT: dict[str, Any] = {
    "count": env_int("REQUEUE_LIMIT_COUNT", 100),
    "usd": env_usd("REQUEUE_LIMIT_USD", "5000.00"),
}


def _ages() -> Ages:
    """Read AGE_VISIBILITY, AGE_BACKOFF and so on; production's defaults stand in Ages."""
    values: dict[str, Any] = {}
    for name, default in vars(Ages()).items():
        variable = f"AGE_{name.upper()}"
        if isinstance(default, tuple):
            values[name] = env_seconds_list(variable, default)
        elif name in Ages.COUNTS:
            values[name] = env_int(variable, default)
        else:
            values[name] = env_seconds(variable, default)
    return Ages(**values)


AGES = _ages()
FAILPOINTS = env_str("FAILPOINTS", "")
if FAILPOINTS and PRODUCTION:
    raise SystemExit("FAILPOINTS kills processes on purpose; it is refused in production")

# --- Who is told (docs/telling.md) -----------------------------------------------------------------
# Nothing is told while neither of the two ways is set; notices wait then, and triage says so.
FINANCE_MAIL_TO = env_list("FINANCE_MAIL_TO", "")
# Whoever knows a chat's webhook may write there: the address is a secret as the signature's key is.
FINANCE_WEBHOOK_URL = env_secret_or_none("FINANCE_WEBHOOK_URL")
FINANCE_WEBHOOK_SECRET = env_secret("FINANCE_WEBHOOK_SECRET") if FINANCE_WEBHOOK_URL else ""
if FINANCE_WEBHOOK_URL and not LOCAL and not FINANCE_WEBHOOK_URL.startswith("https://"):
    raise SystemExit("FINANCE_WEBHOOK_URL must begin with https:// outside local and test")
# Before each link of a notice, such as https://checkout.example.com.
FINANCE_PAGES_URL = env_str("FINANCE_PAGES_URL", "").rstrip("/")
# The digest's time of day in the finance zone, and seconds between notices of discrepancies.
FINANCE_DIGEST_AT = env_time("FINANCE_DIGEST_AT", "07:30")
FINANCE_TELL_EVERY = env_seconds("FINANCE_TELL_EVERY", 900)
# Up to these nobody is paged: standing discrepancies, their absolute USD, seconds without a pass.
FINANCE_PAGE: dict[str, Any] = {
    "count": env_int("FINANCE_PAGE_COUNT", 20),
    "usd": env_usd("FINANCE_PAGE_USD", "100.00"),
    "stopped": env_seconds("FINANCE_PAGE_STOPPED", 600),
}
# Django's own names. Mail leaves through this host alone, and only if FINANCE_MAIL_TO names somebody.
EMAIL_HOST = env_str("EMAIL_HOST") if FINANCE_MAIL_TO else ""
EMAIL_PORT = env_int("EMAIL_PORT", 25 if LOCAL else 587)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env_secret_or_none("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", default=not LOCAL)
EMAIL_TIMEOUT = env_int("EMAIL_TIMEOUT", 10)
DEFAULT_FROM_EMAIL = env_str("FINANCE_MAIL_FROM", "Checkout Service <checkout@localhost>")

# --- API -----------------------------------------------------------------------------------------
# The threads of one web process, as the server is told too: half of them may wait for a database
# that is away, a quarter for the next state of a checkout.
WEB_THREADS = env_int("WEB_THREADS", 4)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["checkout.http.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["checkout.http.StrictJsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "checkout.http.problem_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Checkout Service",
    "DESCRIPTION": "Collects subscription charges in USD and proves them.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}

# --- Logs: JSON, ids as fields, never card data or addresses ---------------------------------------
LOGGING = logging_config(env_str("LOG_LEVEL", "INFO"))
