# The image: one static binary on a base of CA certificates and an unprivileged
# user, without a shell. It writes nowhere, so its root may be read-only.

FROM golang:1.26 AS build
WORKDIR /src
# Off, so that the binary needs no C library from its base.
ENV CGO_ENABLED=0

# The one step that needs the network. Its layer lasts until a dependency changes.
COPY go.mod go.sum ./
RUN go mod download

# From here on a dependency that go.sum does not know fails the build.
ENV GOPROXY=off
COPY cmd cmd
COPY internal internal
ARG VERSION=dev
ARG REVISION=unknown
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o docent ./cmd/docent

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /src/docent /docent
# By number: a platform that demands a user other than root cannot look up names.
USER 65532:65532
ENTRYPOINT ["/docent"]
