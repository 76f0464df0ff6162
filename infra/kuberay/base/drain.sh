#!/bin/sh
# What a pod of Ray's does before Kubernetes ends it, for at most so many seconds:
#
#   drain.sh head SECONDS      the driver is told to stop, stages what is in flight, and ends
#   drain.sh worker SECONDS    the work on this node ends
#
# All pods of a cluster are ended at once, and what the driver stages is done by the workers, so
# they wait for it. A worker whose node goes alone works until it is killed, and Ray does that
# work elsewhere; one that the autoscaler ends is idle. The actors that Ray Data leaves behind
# stand beside the driver, so a head waits for nothing but drivers.
set -u
role=$1
until=$(($(date +%s) + $2))

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

workers() {
  for process in /proc/[0-9]*; do
    case $(arguments "$process") in
      ray::IDLE* | ray::DashboardAgent* | ray::RuntimeEnvAgent*) ;;
      ray::*) echo "$process" ;;
    esac
  done
}

working() {
  case $role in
    head) drivers ;;
    worker) workers ;;
  esac
}

for driver in $(drivers); do
  # Who deletes a RayJob has it stopped by Ray first, and a second signal ends a run at once.
  if ! { [ -f "$driver/fd/2" ] && grep -q 'what is in flight is staged' "$driver/fd/2"; }; then
    kill -TERM "${driver#/proc/}"
  fi
done
while [ -n "$(working)" ] && [ "$(date +%s)" -lt "$until" ]; do
  sleep 1
done
