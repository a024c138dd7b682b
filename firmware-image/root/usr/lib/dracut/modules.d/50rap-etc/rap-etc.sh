#!/bin/sh
# Makes /etc of this start: an overlay in memory over that of the root slot, which is never written. It is created
# anew at each start, so that changed defaults of an update take effect (rap-provision.service). dracut runs
# this before the system starts. A system without the kernel argument rap.volumes has no slots, and keeps its /etc.
#
# rap.volumes has the UUIDs of this disk's file systems by mount point. They cannot be in the slot, which has the same
# bytes on all disks: /var=UUID,/var/log=UUID
type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh

volumes=$(getarg rap.volumes=)
if [ -n "$volumes" ]; then
    modprobe -q overlay
    layers=/run/rap-etc
    options="lowerdir=$NEWROOT/etc,upperdir=$layers/upper,workdir=$layers/work,nodev,nosuid"
    # a separate mount, whose labels systemd does not change when it relabels /run
    mkdir -p "$layers" \
        && mount -t tmpfs -o mode=0755,size=64m,nodev,nosuid rap-etc "$layers" \
        && mkdir "$layers/upper" "$layers/work" \
        && mount -t overlay -o "$options" rap-etc "$NEWROOT/etc" \
        && umount -l "$layers" \
        || die "/etc cannot be made"
    for volume in $(echo "$volumes" | tr , ' '); do
        mount_point=${volume%%=*}
        sed -i "s#^[^ ]* $mount_point #UUID=${volume#*=} $mount_point #" "$NEWROOT/etc/fstab" || die "/etc/fstab cannot be made"
    done
    # the boot loader's entry as programs read it (BLS): GRUB starts the slot's own script, and /boot is never changed
    entries=/run/rap-entries
    read -r version < /proc/sys/kernel/osrelease
    read -r arguments < /proc/cmdline
    mkdir -p "$entries"
    {
        printf 'title %s\nversion %s\n' "$version" "$version"
        printf 'linux /boot/vmlinuz-%s\ninitrd /boot/initramfs-%s.img\n' "$version" "$version"
        printf 'options %s\n' "${arguments#BOOT_IMAGE=* }"
    } > "$entries/rap-$version.conf"
    printf '%s /boot/loader/entries none bind,ro,nodev,nosuid,noexec,nofail 0 0\n' "$entries" >> "$NEWROOT/etc/fstab"
fi
