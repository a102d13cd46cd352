"""
Settings, all from the environment. A secret may also come from a file named by NAME_FILE.

With nothing set this is a laptop: an embedded database and broker under STATE, started by
`make up`. Production sets DATABASE_URL, CELERY_BROKER_URL, STREAM_URL, SECRET_KEY, BASE_URL
and the vault's key files; whatever it forgets is refused at start, by name.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from definable.launcher import local

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    """Return a setting, or the contents of the file that NAME_FILE points to."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text().strip()
    return os.environ.get(name, default)


def env_count(name: str, default: int, *, least: int = 1) -> int:
    """Return a whole number of at least `least`. Raises ImproperlyConfigured."""
    value = env(name, str(default))
    if not value.isdecimal() or int(value) < least:
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return int(value)


def env_flag(name: str, default: bool = False) -> bool:
    """Return a yes/no setting: 1, true, yes and on mean yes."""
    return env(name, str(default)).lower() in {"1", "true", "yes", "on"}


STATE = local.state_dir()
PRODUCTION = env_flag("PRODUCTION")
DEBUG = False


def required(name: str, local_value: str) -> str:
    """Return a setting that a laptop may leave out and production may not."""
    if value := env(name):
        return value
    if PRODUCTION:
        raise ImproperlyConfigured(f"Set {name} (or {name}_FILE): production does not guess it.")
    return local_value


SECRET_KEY = required("SECRET_KEY", "") or local.secret_key(STATE)
BASE_URL = required("BASE_URL", f"http://127.0.0.1:{env('PORT', '8000')}")
HTTPS = BASE_URL.startswith("https://")
ALLOWED_HOSTS = [h for h in env("ALLOWED_HOSTS").split(",") if h] or [urlsplit(BASE_URL).hostname, "localhost"]

# --- applications -----------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "django_htmx",
    "audit",
    "accounts",
    "vault",
    "integrations",
    "personas",
    "definable",
]

MIDDLEWARE = [
    "definable.middleware.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "definable.limits.RequestLimitsMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "definable.middleware.HtmxRedirectMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.TimeZoneMiddleware",
]

ROOT_URLCONF = "definable.urls"
ASGI_APPLICATION = "definable.asgi.application"
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
                "accounts.context.shell",
                "definable.theme.theme",
            ],
        },
    },
]

# --- database ---------------------------------------------------------------------------

DATABASE_URL = required("DATABASE_URL", "") or local.database_url(STATE)
_dsn = conninfo_to_dict(DATABASE_URL)
DB_POOL = int(env("DB_POOL", "8"))
DATABASES = {
    "default": {
        "ENGINE": "definable.postgresql",
        "NAME": _dsn.pop("dbname"),
        "USER": _dsn.pop("user", ""),
        "PASSWORD": _dsn.pop("password", ""),
        "HOST": _dsn.pop("host", ""),
        "PORT": _dsn.pop("port", ""),
        "CONN_MAX_AGE": 0,  # the pool keeps connections; Django must not
        "OPTIONS": {"pool": {"min_size": 1, "max_size": DB_POOL, "timeout": 10, "max_idle": 60}} | _dsn,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- background work --------------------------------------------------------------------

CELERY_BROKER_URL = required("CELERY_BROKER_URL", "") or local.broker_url(STATE)
STREAM_URL = required("STREAM_URL", "") or local.stream_url(STATE)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # a lost hint is re-sent by a sweeper; a late one would run twice
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = True
# Every task is named here: work that waits for a model never stands before work that must not wait.
CELERY_TASK_ROUTES = {
    "personas.tasks.work": {"queue": "calls"},
    "integrations.tasks.test_connection": {"queue": "calls"},
    "integrations.tasks.redeem": {"queue": "calls"},
    "integrations.tasks.settle": {"queue": "calls"},
    "integrations.tasks.refresh_catalog": {"queue": "calls"},
    "personas.tasks.dispatch": {"queue": "control"},
    "personas.tasks.sweep": {"queue": "control"},
    "personas.tasks.deliver": {"queue": "calls"},
    "personas.tasks.deliver_due": {"queue": "calls"},
    "personas.tasks.watch": {"queue": "control"},
    "personas.tasks.watch_credits": {"queue": "control"},
    "personas.tasks.ping": {"queue": "calls"},  # only those workers have a way out
    "personas.tasks.check_chains": {"queue": "control"},
    "personas.tasks.forget_chats": {"queue": "control"},
    "personas.tasks.erase_old": {"queue": "control"},
    "integrations.tasks.sweep": {"queue": "control"},
    "integrations.tasks.watch_catalog": {"queue": "control"},
    "integrations.tasks.roll_up": {"queue": "control"},
    "audit.tasks.make_months": {"queue": "control"},
}
CELERY_WORKER_CONSUMER = "definable.doorkeeper:Consumer"  # drops what is no task of ours
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
# A page must not hang because the broker is away: the sweeper sends what this could not.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"visibility_timeout": 3600, "socket_connect_timeout": 2, "socket_timeout": 5}
    if CELERY_BROKER_URL.startswith("redis")
    else {"confirm_publish": True}
)
CELERY_BEAT_SCHEDULE = {
    "dispatch": {"task": "personas.tasks.dispatch", "schedule": 1.0, "options": {"expires": 2}},
    "sweep": {"task": "personas.tasks.sweep", "schedule": 5.0, "options": {"expires": 10}},
    "watch": {"task": "personas.tasks.watch", "schedule": 60.0, "options": {"expires": 60}},
    "watch-credits": {"task": "personas.tasks.watch_credits", "schedule": 3600.0, "options": {"expires": 600}},
    "ping": {"task": "personas.tasks.ping", "schedule": 60.0, "options": {"expires": 60}},
    "deliver-due": {"task": "personas.tasks.deliver_due", "schedule": 30.0, "options": {"expires": 30}},
    "check-chains": {"task": "personas.tasks.check_chains", "schedule": 3600.0, "options": {"expires": 600}},
    "forget-chats": {"task": "personas.tasks.forget_chats", "schedule": 60.0, "options": {"expires": 60}},
    "erase-old": {"task": "personas.tasks.erase_old", "schedule": 600.0, "options": {"expires": 600}},
    "sweep-connections": {"task": "integrations.tasks.sweep", "schedule": 5.0, "options": {"expires": 10}},
    # So often for the first reading: a new installation must not wait a minute for its prices.
    "roll-up": {"task": "integrations.tasks.roll_up", "schedule": 15.0, "options": {"expires": 15}},
    "watch-catalog": {"task": "integrations.tasks.watch_catalog", "schedule": 5.0, "options": {"expires": 10}},
    "make-months": {"task": "audit.tasks.make_months", "schedule": 3600.0, "options": {"expires": 600}},
}

# Asked each minute by the watchdog: a service there raises the alarm when it is asked no more. Empty: none is asked.
PING_URL = env("PING_URL")

# --- vault ------------------------------------------------------------------------------

# Workers hold the root key; web gets only the content key and the public half of the sealing key.
# A key may stand in the environment instead of a file; in production only if that is accepted by name.
VAULT_ROOT_KEY = os.environ.get("VAULT_ROOT_KEY", "")
VAULT_CONTENT_KEY = os.environ.get("VAULT_CONTENT_KEY", "")
VAULT_SEALING_KEY = os.environ.get("VAULT_SEALING_KEY", "")
VAULT_KEYS_IN_ENVIRONMENT = env_flag("VAULT_KEYS_IN_ENVIRONMENT")
VAULT_ROOT_KEY_FILE = env("VAULT_ROOT_KEY_FILE", "" if PRODUCTION else str(STATE / "keys" / "root.json"))
VAULT_CONTENT_KEY_FILE = (
    "" if VAULT_CONTENT_KEY else required("VAULT_CONTENT_KEY_FILE", str(STATE / "keys" / "content.json"))
)
VAULT_SEALING_KEY_FILE = (
    "" if VAULT_SEALING_KEY else required("VAULT_SEALING_KEY_FILE", str(STATE / "keys" / "sealing.pub"))
)

# --- OpenRouter -------------------------------------------------------------------------

# A team cannot set these: a credential is bound to the host its integration was written for.
INTEGRATION_URLS = {"openrouter": env("OPENROUTER_URL", "https://openrouter.ai/api/v1").rstrip("/")}

# Where teams may have us send things: to these ports of the public internet, over TLS. Beside them to
# the origins named here (http://receiver:9000), which may be inside and without TLS: for development, and
# for services of one's own.
OUTGOING_PORTS = [int(port) for port in env("OUTGOING_PORTS", "443").replace(",", " ").split()]
OUTGOING_ALSO_TO = env("OUTGOING_ALSO_TO").lower().replace(",", " ").split()

# Runs of a team's flows that may be at work at once, unless the team sets fewer. A worker has 64 threads.
RUNS_AT_ONCE = env_count("RUNS_AT_ONCE", 32)

# Calls a minute that a team, each of its members, each persona and each tool may make.
CALLS_A_MINUTE = {
    kind: env_count(f"CALLS_A_MINUTE_{kind.upper()}", most)
    for kind, most in {"team": 1200, "member": 600, "persona": 600, "tool": 1200}.items()
}

# Whether owners and admins may change their team's plan and add packs by themselves. Nothing is paid here,
# so in production whoever runs the installation does it, with set_plan and add_pack.
PLANS_BY_TEAMS = env_flag("PLANS_BY_TEAMS", not PRODUCTION)

# Teams that people make for themselves come with the smallest plan's platform credits, each month. 0: no limit.
FREE_TEAMS = env_count("FREE_TEAMS", 10_000, least=0)
FREE_TEAMS_A_DAY_PER_NETWORK = env_count("FREE_TEAMS_A_DAY_PER_NETWORK", 20, least=0)
FREE_TEAMS_NEED_CONFIRMED_ADDRESS = env_flag("FREE_TEAMS_NEED_CONFIRMED_ADDRESS", PRODUCTION)

# Whether chats stream to their pages (on), or pages ask each second (off: for proxies that hold answers back).
# A stream holds no thread, but memory; beyond these counts a page is refused one, and asks.
STREAMING = env_flag("STREAMING", True)
STREAMS_PER_PERSON = env_count("STREAMS_PER_PERSON", 8)
STREAMS_PER_PROCESS = env_count("STREAMS_PER_PROCESS", 500)

# How long a call that must be allowed first waits for somebody.
APPROVAL_HOURS = env_count("APPROVAL_HOURS", 72)

# --- people -----------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "accounts.passwords.MaximumLengthValidator"},
    {"NAME": "accounts.passwords.OwnWordsValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "session"
SESSION_COOKIE_AGE = 60 * 60 * 12
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = HTTPS
CSRF_TRUSTED_ORIGINS = [BASE_URL]
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz)$"]  # probes come from inside, without TLS
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_flag("BEHIND_PROXY") else None
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
# definable.middleware sends X-Frame-Options itself, on static files and early errors too.
SILENCED_SYSTEM_CHECKS = ["security.W002"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024  # for pages that take prompts; definable.limits holds the others to 1 MiB
FILE_UPLOAD_HANDLERS = []  # no page takes a file but those that definable.limits names
FILE_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024  # a form of these, files and all: held in memory, never on disk
DATA_UPLOAD_MAX_NUMBER_FILES = 10
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

EMAIL_BACKEND = env("EMAIL_BACKEND", "django.core.mail.backends.filebased.EmailBackend")
EMAIL_FILE_PATH = str(STATE / "mail")
EMAIL_HOST = env("EMAIL_HOST", "localhost")
EMAIL_PORT = int(env("EMAIL_PORT", "25"))
EMAIL_HOST_USER = env("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_flag("EMAIL_USE_TLS")
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", "Definable <definable@localhost>")

# --- the log ----------------------------------------------------------------------------

LOGGING_CONFIG = "definable.logs.configure"
LOGGING = {"level": env("LOG_LEVEL", "WARNING").upper()}

# --- the rest ---------------------------------------------------------------------------

LANGUAGE_CODE = "en-gb"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = Path(env("STATIC_ROOT", str(STATE / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True

# --- allauth ----------------------------------------------------------------------------

ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "optional"  # a laptop has no mail server; a link confirms later
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_SESSION_REMEMBER = True  # for SESSION_COOKIE_AGE; nobody is asked
ACCOUNT_FORMS = {
    "login": "accounts.forms.SignInForm",
    "signup": "accounts.forms.SignUpForm",
    "reset_password": "accounts.forms.AskResetForm",
    "reset_password_from_key": "accounts.forms.NewPasswordForm",
    "change_password": "accounts.forms.PasswordForm",
    "set_password": "accounts.forms.FirstPasswordForm",
}
# What one person may do how often: so many times in so many seconds.
PERSON_LIMITS = {"invite": (20, 600), "new_team": (5, 3600)}
CONFIRMATION_EVERY = 180  # seconds between two links that confirm one address
ACCOUNT_RATE_LIMITS = {action: f"{most}/{seconds}s/user" for action, (most, seconds) in PERSON_LIMITS.items()}
ACCOUNT_RATE_LIMITS["trigger"] = "120/60s/key"  # requests to one trigger's address
ACCOUNT_RATE_LIMITS["confirm_email"] = f"1/{CONFIRMATION_EVERY}s/key"
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if env_flag("BEHIND_PROXY") else 0
PASSWORD_RESET_TIMEOUT = 30 * 60
EMAIL_TIMEOUT = 10

# Counters of tries live in the database: shared by every web process, kept over a restart.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "accounts_counter",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
