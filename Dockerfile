# One image for every process; docker-compose.yml says which of them a container is.
FROM python:3.11-slim AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
RUN pip install --no-cache-dir "uv==${UV_VERSION}" && uv venv /opt/venv
# `--build-arg EXTRAS="requirements-sql.txt requirements-brokers.txt"` for WORKFLOW_DATABASES and for message brokers.
ARG EXTRAS=
COPY requirements.txt requirements-sql.txt requirements-brokers.txt .
RUN uv pip sync --no-cache --python /opt/venv/bin/python requirements.txt ${EXTRAS}
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /app
COPY . .
RUN CARILLON_OFFLINE=1 python manage.py collectstatic --noinput && python -m compileall -q .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent carillon
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER carillon
EXPOSE 8000
# For `web`, which is what the image runs by itself; the other processes have their own in docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENV CARILLON_PROCESS=web
CMD ["granian", "--interface", "wsgi", "project.wsgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "1", "--blocking-threads", "16", "--respawn-failed-workers", "--workers-kill-timeout", "5"]
