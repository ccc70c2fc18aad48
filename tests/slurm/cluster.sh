#!/usr/bin/env bash
# A Slurm cluster of this one machine, in a folder of its own: `cluster.sh start <folder>`, `cluster.sh stop <folder>`.
# Wants root, as daemons that start other people's jobs do. Afterwards SLURM_CONF=<folder>/slurm.conf names it.
set -euo pipefail
verb=$1 folder=$2

pid() { cat "$folder/$1.pid" 2> /dev/null || true; }

alive() { [ -n "$(pid "$1")" ] && grep -qs '^State:.*[^Z] (' "/proc/$(pid "$1")/status"; }

stop() {
  if alive slurmctld; then
    SLURM_CONF="$folder/slurm.conf" scancel --quiet --user "$(id -un)" || true
    for _ in $(seq 20); do
      [ -z "$(SLURM_CONF="$folder/slurm.conf" squeue --noheader)" ] && break
      sleep 1
    done
  fi
  for daemon in slurmctld slurmd munged; do
    if alive $daemon; then
      kill "$(pid $daemon)" || true
      for _ in $(seq 50); do alive $daemon || break; sleep 0.2; done
      if alive $daemon; then kill -9 "$(pid $daemon)"; fi
    fi
  done
}

start() {
  mkdir -p "$folder"/{state,spool,munge}
  chmod 755 "$folder"
  chown munge: "$folder/munge"
  chmod 755 "$folder/munge"
  head -c 1024 /dev/urandom > "$folder/munge/key"
  chown munge: "$folder/munge/key"
  chmod 400 "$folder/munge/key"
  local cores memory
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
  # cred_expire: how long a requeued job waits before it may start again. Accounting is left out: it needs a database.
  cat > "$folder/slurm.conf" << EOF
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=600
CompleteWait=0
InactiveLimit=0
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$((cores > 1 ? cores : 2)) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
EOF
  runuser -u munge -- /usr/sbin/munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/munged.log" --seed-file="$folder/munge/seed"
  ln -sf "$folder/munge/munged.pid" "$folder/munged.pid"
  export SLURM_CONF="$folder/slurm.conf"
  /usr/sbin/slurmctld
  /usr/sbin/slurmd
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && return
    sleep 0.5
  done
  sinfo || true
  tail -n 30 "$folder"/slurm*.log
  return 1
}

"$verb"
