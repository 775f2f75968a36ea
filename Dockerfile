# The image is one static binary on a base with CA certificates and an
# unprivileged user, without a shell. Serving writes no files, so the root file
# system may be read-only.

FROM golang:1.26 AS build
WORKDIR /src
# Without cgo, the binary needs no C library from the base.
ENV CGO_ENABLED=0

# The only step that needs the network. Its layer is cached until a dependency
# changes.
COPY go.mod go.sum ./
RUN go mod download

# From here on, a dependency that is not in go.sum fails the build.
ENV GOPROXY=off
COPY cmd cmd
COPY internal internal
ARG VERSION=dev
ARG REVISION=unknown
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o docent ./cmd/docent

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /src/docent /docent
# Numeric, because a platform that requires a non-root user cannot resolve names.
USER 65532:65532
ENTRYPOINT ["/docent"]
