# docker build -t tcpwatch .
#
# The lab makes namespaces, TUN devices and a tracefs instance of its own, all as the container's
# root, and changes nothing on the host:
#
#   docker run --rm -it --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun \
#       --security-opt apparmor=unconfined --security-opt systempaths=unconfined tcpwatch
#
#   --cap-add SYS_ADMIN                   unshare(), setns(), mounts; tracefs for the kernel witness
#   --cap-add NET_ADMIN                   links, addresses, TCP sysctls of the lab's namespaces
#   --device /dev/net/tun                 the wire between the two stacks
#   --security-opt apparmor=unconfined    docker's profile denies mounts and writes to /proc/sys/net
#   --security-opt systempaths=unconfined docker mounts /proc/sys read-only, masks parts of /proc
#
# Docker's default seccomp profile needs no change: it allows these calls to whoever has SYS_ADMIN.
# `docker run --rm tcpwatch doctor`, with the same options, says which witnesses are available.
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY tcpwatch tcpwatch
COPY scenarios scenarios
RUN pip install --no-cache-dir . && rm -rf /src/*

WORKDIR /
ENTRYPOINT ["tcpwatch"]
CMD ["run", "simultaneous-close"]
