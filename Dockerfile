# syntax=docker/dockerfile:1
# The service's image: web, worker, relays, timetable and export worker are the same image with another command.
# Nothing is downloaded when a container starts: packages and static files are in the image.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /service
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/base.txt requirements/base.txt
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r requirements/base.txt

FROM python:3.11.14-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A new volume at /exports takes over who owns the folder.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin checkout \
    && install -d -m 0700 -o 10001 -g 10001 /exports
WORKDIR /service
COPY --from=build /venv /venv
COPY manage.py ./
COPY config config
COPY checkout checkout
COPY settlements settlements
COPY templates templates
# The settings ask for addresses and secrets; collecting static files uses none of them.
RUN ENVIRONMENT=local SECRET_KEY=build DATABASE_URL=postgresql://build:build@build:5432/build \
    KAFKA_BOOTSTRAP_SERVERS=build:9092 PROCESSOR_URL=http://build PROCESSOR_API_KEY=build \
    PROCESSOR_WEBHOOK_SECRET=build python manage.py collectstatic --noinput
USER 10001
EXPOSE 8000
CMD ["gunicorn", "--config", "python:config.gunicorn", "config.wsgi:application", \
     "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "4", \
     "--no-control-socket"]
