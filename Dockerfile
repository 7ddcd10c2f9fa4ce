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
ENV DELTATAPE_HOME=/var/lib/deltatape
VOLUME /var/lib/deltatape
ENTRYPOINT ["deltatape"]
CMD ["up"]
