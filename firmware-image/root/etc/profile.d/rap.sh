# RHEL-09-412035: a shell at which nobody types ends
declare -xr TMOUT=600
# RHEL-09-412015: and its screen is locked before
if [ "$PS1" ]; then
  parent=$(ps -o ppid= -p $$)
  name=$(ps -o comm= -p $parent)
  case "$name" in sshd|login) exec tmux ;; esac
fi
