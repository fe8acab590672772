# Debian with Python, from a tarball created by mmdebstrap; replaces python:3.11-slim-bookworm.
FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
