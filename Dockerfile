# The application: web, worker, control worker and beat are this image with different commands.
# For production, replace the tags by digests (docker buildx imagetools inspect <image>).
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN STATE=/tmp/build STATIC_ROOT=/app/collected /venv/bin/python manage.py collectstatic --no-input \
    && /venv/bin/python -m compileall -q /app

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin definable
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PRODUCTION=1 \
    STATE=/tmp/definable \
    STATIC_ROOT=/app/collected
USER 10001:10001
EXPOSE 8000
CMD ["uvicorn", "definable.asgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--no-proxy-headers", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "3"]
