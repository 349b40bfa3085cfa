ARG DEBIAN
FROM ${DEBIAN}
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends gcc libc6-dev ca-certificates >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY . /usr/local/
ENV CARGO_HOME=/usr/local/cargo
