# One image of one program: docker build --build-arg BIN=sluice-driver -t registry.example.com/team/sluice-driver:0.1.0 .
# README.md has the loop over all of them.
# BIN: sluice-driver, sluice-batcher, sluice-preloader, sluice-autoscaler or sluice-loadtest.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
ARG BIN
RUN test -n "$BIN" || { echo "name the program: --build-arg BIN=sluice-driver" >&2; exit 1; }
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --package "$BIN" --bin "$BIN" \
    && install -D "target/release/$BIN" "/program/$BIN" \
    && ln -s "$BIN" /program/entrypoint

# As whom it runs the manifests say: the driver as root, the others not.
FROM docker.io/library/debian:bookworm-slim
COPY --from=build /program/ /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/entrypoint"]
