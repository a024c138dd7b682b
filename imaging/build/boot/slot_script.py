"""GRUB's script that chooses a root slot by the slot state, counts the tries of a trial, and starts the slot.

`settings.slots` defines the records and the decision; `choose_slot` below implements the same decision. The script
uses only modules that the signed GRUB programs of the distributions contain (loadenv, regexp, test), and treats its
errors as outcomes: an unreadable record counts as damaged.

The state is read as sectors. The tries are read and written as files, because `save_env` writes only into files.

Each slot contains the parameters of its start: `SLOT_SCRIPT` in it loads its kernel and initramfs with its kernel
arguments. The menu is the same for all releases, and is never changed by an update.
"""

from __future__ import annotations

from typing import Final

from settings.slots import COPY_OFFSETS, FIRST, LAST, RECORD_BYTES, STATE_PATTERN, TRIES_MAX, TRIES_PATTERN

SLOT_SCRIPT: Final = "boot/slot.cfg"
"""The file in a slot that loads its kernel; a slot without this file is not started."""
ARGUMENTS: Final = "slot_arguments"
"""The variable with the kernel arguments that name this disk's partitions, which `SLOT_SCRIPT` uses: a slot has
the same bytes on all disks."""
TRIES_FILES: Final = ("tries-0", "tries-1")
"""The files with the tries, in the file system at the beginning of the partition `boot-state`."""
_SECTOR: Final = 512
_SECTORS: Final = RECORD_BYTES // _SECTOR
_STATE_COPIES: Final = " ".join(f'"($state){offset // _SECTOR}+{_SECTORS}"' for offset in COPY_OFFSETS)

FUNCTIONS: Final = f"""\
# Devices: $state, $slot_a, $slot_b. UUIDs of partitions: $partuuid_a, $partuuid_b, $machine_id. UUIDs of file systems
# by mount point: $volumes.

# set $record to the value of the record $1, or to "" if it is not whole
function load_record {{
  set {FIRST}=""
  set {LAST}=""
  set record=""
  load_env -f "$1" {FIRST} {LAST}
  if [ "${FIRST}" = "${LAST}" ]; then set record="${FIRST}"; fi
}}

# set $device to that of slot $1; fail if it cannot be started
function is_startable {{
  if [ "$1" = b ]; then set device="$slot_b"; else set device="$slot_a"; fi
  [ -f "($device)/{SLOT_SCRIPT}" ]
}}

# set $tries to the count in copy $1, or to n if it does not tell that of this trial
function load_tries {{
  set tries=n
  load_record "($state)/tries-$1"
  if regexp --set=1:of --set=2:value '^{TRIES_PATTERN}$' "$record"; then
    if [ "$of" = "$number" ]; then set tries="$value"; fi
  fi
}}

# add one to $count, up to {TRIES_MAX}
function count_one {{
  if [ "$count" = 0 ]; then set count=1
  elif [ "$count" = 1 ]; then set count=2
  else set count=3
  fi
}}

# write $count to copy $1; fail if it cannot be read again
function save_tries {{
  set {FIRST}="$number-$count"
  set {LAST}="$number-$count"
  save_env -f "($state)/tries-$1" {FIRST} {LAST}
  load_record "($state)/tries-$1"
  [ "$record" = "$number-$count" ]
}}

# count a try of the slot on trial; fail if all are used up, or if it cannot be counted
function count_try {{
  load_tries 0
  set tries0="$tries"
  load_tries 1
  set tries1="$tries"
  if [ "$tries0" = n -a "$tries1" = n ]; then return 1; fi
  set count="$tries1"
  set replaced=0
  if [ "$tries1" = n ]; then
    set count="$tries0"
    set replaced=1
  elif [ "$tries0" != n ]; then
    if [ "$tries0" -ge "$tries1" ]; then
      set count="$tries0"
      set replaced=1
    fi
  fi
  # beside a damaged copy, a try is counted that may have been in it
  if [ "$tries0" = n -o "$tries1" = n ]; then
    if [ "$count" -ge {TRIES_MAX} ]; then return 1; fi
    count_one
  fi
  if [ "$count" -ge {TRIES_MAX} ]; then return 1; fi
  count_one
  if save_tries "$replaced"; then return 0; fi
  if [ "$replaced" = 0 ]; then save_tries 1; else save_tries 0; fi
}}

# set $slot to the slot to start
function choose_slot {{
  set number=""
  set committed=a
  set trial=n
  for copy in {_STATE_COPIES}; do
    load_record "$copy"
    if regexp --set=1:of --set=2:is_committed --set=3:is_tried '^{STATE_PATTERN}$' "$record"; then
      set newer=1
      if [ -n "$number" ]; then
        if [ "$of" -le "$number" ]; then set newer=0; fi
      fi
      if [ "$newer" = 1 ]; then
        set number="$of"
        set committed="$is_committed"
        set trial="$is_tried"
      fi
    fi
  done
  set slot="$committed"
  if [ "$trial" != n -a "$trial" != "$committed" ]; then
    if is_startable "$trial"; then
      if count_try; then set slot="$trial"; fi
    fi
  fi
  if is_startable "$slot"; then return 0; fi
  other_slot
}}

function other_slot {{
  if [ "$slot" = a ]; then set slot=b; else set slot=a; fi
}}

# start $slot; return if that fails
function start_slot {{
  if is_startable "$slot"; then
    if [ "$slot" = b ]; then set partuuid="$partuuid_b"; else set partuuid="$partuuid_a"; fi
    set {ARGUMENTS}="root=PARTUUID=$partuuid ro rap.slot=$slot rap.volumes=$volumes systemd.machine_id=$machine_id"
    set root="$device"
    source "($device)/{SLOT_SCRIPT}"
    boot
  fi
}}
"""
"""The functions of the menu."""
