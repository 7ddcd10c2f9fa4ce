# `deltatape` with the locked packages; the database is another container (docker-compose.yml).
FROM python:3.13-slim-trixie

RUN useradd --system --home-dir /var/lib/deltatape --create-home deltatape
WORKDIR /opt/deltatape
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER deltatape
WORKDIR /var/lib/deltatape
# /health is asked from inside; nothing is published.
ENV DELTATAPE_HOME=/var/lib/deltatape \
    DELTATAPE_ENDPOINT__LISTEN=127.0.0.1:9464 \
    DELTATAPE_LOG_FORMAT=json \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/deltatape
HEALTHCHECK --interval=15s --timeout=6s --start-period=90s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/health', timeout=5)"]
ENTRYPOINT ["deltatape"]
CMD ["up", "--wait"]
