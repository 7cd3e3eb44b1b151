#!/bin/bash
# Starts one monitor, one object daemon in memory and the gateway on port 9000, with the keys MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, so
# that this image can stand in for MinIO's.
set -euo pipefail
dir=${CEPH_DIR:-/tmp/ceph}
rm -rf $dir
mkdir -p $dir/{mon,osd,rgw,log,run}
fsid=$(uuidgen)
cat >$dir/ceph.conf <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:13300]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon data avail crit = 1
mon allow pool size one = true
auth allow insecure global id reclaim = false
run dir = $dir/run
log file = $dir/log/\$name.log
admin socket = $dir/run/\$name.asok
pid file = $dir/run/\$name.pid
ms bind ipv6 = false
[mon.a]
mon data = $dir/mon
[osd]
osd objectstore = memstore
memstore device bytes = 4294967296
osd data = $dir/osd
[client.rgw.a]
rgw frontends = beast endpoint=0.0.0.0:9000 tcp_nodelay=1
rgw data = $dir/rgw
CONF
conf=(-c $dir/ceph.conf)
admin=("${conf[@]}" --keyring $dir/keyring)
monmaptool --create --addv a '[v2:127.0.0.1:13300]' --fsid "$fsid" $dir/monmap >/dev/null
ceph-authtool --create-keyring $dir/keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool $dir/keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
ceph-mon "${admin[@]}" --mkfs -i a --monmap $dir/monmap
ceph-mon "${admin[@]}" -i a
osd=$(uuidgen)
key=$(ceph-authtool --gen-print-key)
ceph "${admin[@]}" osd new "$osd" -i - <<<"{\"cephx_secret\":\"$key\"}" >/dev/null
printf '[osd.0]\n\tkey = %s\n' "$key" >$dir/osd/keyring
ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd" --keyring $dir/osd/keyring
printf '[osd.0]\n\tkey = %s\n' "$key" >$dir/osd/keyring
ceph-osd "${conf[@]}" -i 0 --keyring $dir/osd/keyring
for name in full backfillfull nearfull; do ceph "${admin[@]}" osd set-$name-ratio 0.99; done
ceph "${admin[@]}" auth get-or-create client.rgw.a mon 'allow rwx' osd 'allow rwx' >$dir/rgw/keyring
radosgw-admin "${admin[@]}" user create --uid=neon --display-name=neon --access-key="$MINIO_ROOT_USER" --secret-key="$MINIO_ROOT_PASSWORD" >/dev/null
echo 'S3 on port 9000'
exec radosgw -f "${conf[@]}" -n client.rgw.a --keyring $dir/rgw/keyring
