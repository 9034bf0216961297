# A PostgreSQL with iotmq and pg_cron, for trying it out and as a pattern.
#
#   docker build -t iotmq .
#   docker run -e POSTGRES_PASSWORD=... -p 5432:5432 iotmq
#
# Then, in the database: CREATE EXTENSION pg_cron; CREATE EXTENSION iotmq;
# SELECT iotmq.schedule_maintenance();

ARG PG_MAJOR=15

FROM postgres:${PG_MAJOR}-bookworm AS build
ARG PG_MAJOR
RUN apt-get update && apt-get install -y --no-install-recommends \
	gcc libc6-dev make postgresql-server-dev-${PG_MAJOR}
COPY . /src
WORKDIR /src
RUN make with_llvm=no && make with_llvm=no install DESTDIR=/out

FROM postgres:${PG_MAJOR}-bookworm
ARG PG_MAJOR
RUN apt-get update \
	&& apt-get install -y --no-install-recommends postgresql-${PG_MAJOR}-cron \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /
CMD ["postgres", "-c", "shared_preload_libraries=pg_cron"]
