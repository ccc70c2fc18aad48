#!/usr/bin/env bash
# The tests of this folder against a real Slurm of one node, which is installed if need be (Debian or Ubuntu, as root),
# started for them and stopped again. `run.sh [pytest arguments]`; PYTHON names the interpreter of the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}

[ "$(id -u)" = 0 ] || { echo "test-slurm starts daemons that want root: run it as root, in a container for example." >&2; exit 1; }
if ! command -v slurmctld slurmd munged > /dev/null; then
  command -v apt-get > /dev/null || { echo "test-slurm needs slurmctld, slurmd and munged: install them." >&2; exit 1; }
  echo "Installing Slurm and munge ..."
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null
fi

tests=
folder=$(mktemp -d /tmp/detlab-slurm.XXXXXX)
finish() {
  status=$?
  [ -z "$tests" ] || kill -- -$tests 2> /dev/null || true
  "$here/cluster.sh" stop "$folder" || true
  if [ $status != 0 ]; then
    for log in "$folder"/slurm*.log; do echo "== $log"; tail -n 40 "$log"; done
  fi
  rm -rf "$folder"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM
"$here/cluster.sh" start "$folder"
export SLURM_CONF="$folder/slurm.conf" DETLAB_SLURM=1
sinfo --version
sinfo
cd "$here/../.."
# In a group of its own: what a test that was cut short left waiting ends with it.
setsid "$python" -m pytest tests/slurm -vv -p no:cacheprovider --durations=0 "$@" &
tests=$!
wait $tests
