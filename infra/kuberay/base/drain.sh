#!/bin/sh
# What a pod of Ray's does before Kubernetes ends it: a driver is told to stop, which stages what is
# in flight, and Ray stays up until the work on this node has ended, for at most so many seconds.
#
# All pods of a cluster are ended at once, so workers have to wait for the driver, which runs on the
# head. A worker whose node goes alone has work until that is killed, and Ray does it elsewhere; one
# that the autoscaler ends is idle.
set -u
until=$(($(date +%s) + $1))

arguments() {
  tr '\0' ' ' 2> /dev/null < "$1/cmdline"
}

drivers() {
  for process in /proc/[0-9]*; do
    # The shell that started the driver names it, too, and must outlive it.
    case $(arguments "$process") in
      *sh\ -c\ *) ;;
      *python*\ -m\ jobs\ *) echo "$process" ;;
    esac
  done
}

working() {
  for process in /proc/[0-9]*; do
    case $(arguments "$process") in
      ray::IDLE* | ray::DashboardAgent* | ray::RuntimeEnvAgent*) ;;
      ray::*) return 0 ;;
    esac
  done
  [ -n "$(drivers)" ]
}

for driver in $(drivers); do
  # Who deletes a RayJob has it stopped by Ray first, and a second signal ends a run at once.
  if ! { [ -f "$driver/fd/2" ] && grep -q 'what is in flight is staged' "$driver/fd/2"; }; then
    kill -TERM "${driver#/proc/}"
  fi
done
while working && [ "$(date +%s)" -lt "$until" ]; do
  sleep 1
done
