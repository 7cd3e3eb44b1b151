#!/bin/sh
# world.sh ROOT HOSTS SEED: run as root by `unshare --net --mount --pid --fork --kill-child`. A world of its own, where the ports, paths
# and host names that existing deployments use are free: loopback only; a root directory of bind mounts, with /data, and what is in SEED
# (/config, /scripts, /opt/neondatabase-neon) in place of the machine's. When this process ends, everything in its world does.
set -eu
root=$1
hosts=$2
seed=$3
ip link set lo up
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
place() {
  if [ -L "$1" ]; then cp -P "$1" "$root$1"
  elif [ -d "$1" ]; then
    mkdir "$root$1"
    # Of the temporary directory only itself: the new root lies in it.
    if [ "$1" = /tmp ]; then mount --bind "$1" "$root$1"; else mount --rbind "$1" "$root$1"; fi
  fi
}
for path in /*; do
  case $path in /proc | /opt | /data | /config | /scripts) ;; *) place "$path" ;; esac
done
mkdir "$root/proc" "$root/opt" "$root/data"
mount -t proc proc "$root/proc"
for path in /opt/*; do
  if [ "$path" != /opt/neondatabase-neon ]; then place "$path"; fi
done
cp -r "$seed/." "$root/"
mount --bind "$hosts" "$root/etc/hosts"
# Until the end of its input.
exec chroot "$root" sh -c 'echo ready; exec cat'
