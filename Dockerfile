# One build, and from it one small image for each program: ingest, router, notifier, simulator, rota.
#
#   docker build --target router --tag rota/router --build-arg REVISION="$(git rev-parse HEAD)" .
#
# The result follows from this tree: crates are those of Cargo.lock, the toolchain is that of
# rust-toolchain.toml. Needs BuildKit (the default since Docker 23; before: DOCKER_BUILDKIT=1).

# Other places may be named where these cannot be reached. The second needs glibc and nothing else.
ARG BUILD_IMAGE=rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# Certificates of your own company, *.crt: trusted while building and by the programs.
COPY deploy/ca-certificates/ /usr/local/share/ca-certificates/
RUN update-ca-certificates 2>/dev/null
COPY . .
# The caches belong to the builder and are no part of any image. Cargo goes by the times of files: those of another tree
# that was built here in the meantime may be newer than this one's, so all count as new. Nine tenths of a program are line numbers for
# debuggers; the names of functions, which a panic's backtrace shows, stay.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked --bin ingest --bin router --bin notifier --bin simulator --bin rota \
    && mkdir -p /out/bin /out/lib/rota/spool \
    && for program in ingest router notifier simulator rota; do \
        strip --strip-debug -o "/out/bin/$program" "target/release/$program"; \
    done

FROM ${RUNTIME_IMAGE} AS runtime
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 10001:10001
WORKDIR /
# The admin endpoints must be reachable by Prometheus; no port is published by itself.
ENV ROTA__ADMIN__LISTEN=0.0.0.0:9090
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.vendor="Rota"

# The health of the three stages: none is ready while RabbitMQ starts again, and `docker compose up` gives up at once
# where one is unhealthy. So each may be away for a minute, as long as RabbitMQ's own health check gives it to start.
FROM runtime AS ingest
LABEL org.opencontainers.image.title="rota ingest" \
      org.opencontainers.image.description="Takes the events of Bitrix24 portals and finds lost ones"
# A volume mounted here gets this owner.
COPY --from=build --chown=10001:10001 /out/lib/rota /var/lib/rota
COPY --from=build /out/bin/ingest /usr/local/bin/ingest
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/ingest"]
CMD ["--config", "/etc/rota/rota.yaml"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=12 \
    CMD ["/usr/local/bin/ingest", "healthcheck", "--config", "/etc/rota/rota.yaml"]

FROM runtime AS router
LABEL org.opencontainers.image.title="rota router" \
      org.opencontainers.image.description="Decides who gets a lead"
COPY --from=build /out/bin/router /usr/local/bin/router
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/router"]
CMD ["--config", "/etc/rota/rota.yaml"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=12 \
    CMD ["/usr/local/bin/router", "healthcheck", "--config", "/etc/rota/rota.yaml"]

FROM runtime AS notifier
LABEL org.opencontainers.image.title="rota notifier" \
      org.opencontainers.image.description="Sets the responsible person and notifies them"
COPY --from=build /out/bin/notifier /usr/local/bin/notifier
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/notifier"]
CMD ["--config", "/etc/rota/rota.yaml"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=12 \
    CMD ["/usr/local/bin/notifier", "healthcheck", "--config", "/etc/rota/rota.yaml"]

FROM runtime AS rota
LABEL org.opencontainers.image.title="rota" \
      org.opencontainers.image.description="Checks, tries and publishes routing files"
COPY --from=build /out/bin/rota /usr/local/bin/rota
ENTRYPOINT ["/usr/local/bin/rota"]

FROM runtime AS simulator
LABEL org.opencontainers.image.title="rota simulator" \
      org.opencontainers.image.description="A Bitrix24 portal to try Rota with"
COPY --from=build --chown=10001:10001 /out/lib/rota /var/lib/rota
COPY --from=build /out/bin/simulator /usr/local/bin/simulator
EXPOSE 8000 8001
ENTRYPOINT ["/usr/local/bin/simulator", "--listen", "0.0.0.0:8000", "--control", "0.0.0.0:8001"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/simulator", "healthcheck", "--control", "127.0.0.1:8001"]
