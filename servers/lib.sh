# shellcheck shell=bash
# What the scripts in this folder share. Sourced, never run:
#
#     source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# A script `servers/NAME` has three verbs:
#
#     install          installs by name what is needed, into `$(cache_dir NAME)` or with apt-get;
#                      does nothing when it is there already
#     start DIR        starts one instance with all its state in DIR, on loopback, and prints
#                      `export AUDIT_TEST_X='value'` lines on stdout and nothing else there; a
#                      second start on the same DIR has the same data and the same ports
#     stop DIR [KILL]  stops it by its pids, or kills it with -9; the data stays
#
# The script defines the functions `install`, `start` and `stop` and ends with `serve "$@"`. In
# `install` and `start` what goes to stdout goes to stderr instead, so that a chatty tool cannot
# spoil the variables; only `export_variable` writes to the real stdout.

set -euo pipefail

# The real stdout, kept for `export_variable` before `serve` turns stdout to stderr.
exec 3>&1

# serve VERB [DIR] [KILL]: calls the function of that name.
serve() {
  local verb=${1:-}
  case $verb in
    install) install_once ;;
    start)
      [[ -n ${2:-} ]] || fail "start needs a directory"
      mkdir -p "$2"
      start "$(cd "$2" && pwd)" >&2 </dev/null
      ;;
    stop)
      [[ -d ${2:-} ]] || fail "stop needs the directory of an instance"
      stop "$(cd "$2" && pwd)" "${3:-}" >&2 </dev/null
      ;;
    *) fail "usage: $0 install | start DIR | stop DIR [KILL]" ;;
  esac
}

# Two installations of the same server at once would spoil each other.
install_once() {
  local name
  name=$(basename "$0")
  mkdir -p "$(cache_dir "$name")"
  exec 9>"$(cache_dir "$name")/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  install >&2 </dev/null 9>&-
  exec 9>&-
}

# cache_dir NAME: where what was installed for a server is kept between runs.
cache_dir() {
  printf '%s\n' "${AUDIT_SERVERS_CACHE:-${HOME:-/root}/.cache/agent-audit}/$1"
}

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# export_variable NAME VALUE: tells the caller of `start` one variable.
export_variable() {
  local quote="'\\''"
  printf "export %s='%s'\n" "$1" "${2//\'/$quote}" >&3
}

# apt_install COMMAND_OR_PATH PACKAGE...: installs Debian packages unless the command or file is there.
apt_install() {
  local probe=$1
  shift
  if command -v "$probe" >/dev/null || [[ -e $probe ]]; then return 0; fi
  (
    export DEBIAN_FRONTEND=noninteractive
    exec </dev/null >&2
    # The lists of a fresh machine are empty, those of an old one may name files that are gone.
    apt-get install -y -qq --no-install-recommends "$@" ||
      { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; }
  )
}

# free_port: a loopback port on which nobody listens, below the range for outgoing connections.
free_port() {
  local port taken=${TMPDIR:-/tmp}/agent-audit-ports.$UID
  mkdir -p "$taken"
  # A server that was stopped keeps its ports, so that it can come back; for a day they are its own.
  find "$taken" -type f -mmin +1440 -delete
  for _ in {1..200}; do
    port=$((10000 + SRANDOM % 22000))
    if (set -o noclobber && : >"$taken/$port") 2>/dev/null &&
      ! (exec 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s\n' "$port"
      return 0
    fi
  done
  fail "no free port found on 127.0.0.1"
}

# keep_port DIR NAME: the port of this instance for NAME; the same at every start.
keep_port() {
  local file=$1/port.$2
  if [[ ! -s $file ]]; then free_port >"$file"; fi
  cat "$file"
}

# listens PORT: whether somebody accepts connections on that loopback port.
listens() {
  (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# spawn PIDFILE COMMAND...: starts a daemon with its own session and no inherited files; what it
# says goes to the file `log` beside PIDFILE. One that runs under this PIDFILE is stopped before.
# Call it from the script itself, not from `$(...)`. What daemonises in another way (pg_ctl) MUST
# be started with `3>&-`, or it keeps the caller's stdout open.
spawn() {
  local pidfile=$1 pid
  shift
  stop_pid "$pidfile"
  setsid "$@" </dev/null >>"$(dirname "$pidfile")/log" 2>&1 3>&- 9>&- &
  pid=$!
  # The time it started tells it from another process that has the same number later.
  printf '%s\nstarted %s\n' "$pid" "$(started "$pid")" >"$pidfile"
}

# wait_for SECONDS COMMAND...: tries COMMAND until it succeeds.
wait_for() {
  local seconds=$1 deadline
  shift
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1 </dev/null; do
    if ((SECONDS >= deadline)); then
      say "no answer within $seconds s: $*"
      return 1
    fi
    sleep 0.1
  done
}

# wait_for_server PIDFILE SECONDS COMMAND...: like wait_for, and gives up, with the end of the log,
# as soon as the process is gone.
wait_for_server() {
  local pidfile=$1 seconds=$2 deadline why
  shift 2
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1 </dev/null; do
    why=
    if ! alive "$pidfile"; then why="the process of $pidfile is gone"; fi
    if ((SECONDS >= deadline)); then why="no answer within $seconds s: $*"; fi
    if [[ -n $why ]]; then
      say "$why"
      tail -n 40 "$(dirname "$pidfile")/log" >&2 || true
      return 1
    fi
    sleep 0.1
  done
}

# alive PIDFILE: whether the process that was written there runs. A zombie does not.
alive() {
  local pid line recorded=
  [[ -s $1 ]] || return 1
  { read -r pid && { read -r line || true; }; } <"$1"
  [[ ${line:-} == "started "* ]] && recorded=${line#started }
  [[ -n $(started "$pid") ]] || return 1
  [[ -z $recorded || $recorded == "$(started "$pid")" ]]
}

# stop_pid PIDFILE [KILL]: ends that process and waits until it is gone. TERM first, and -9 after
# 30 s; with KILL -9 at once. Nothing to do when it is gone already.
stop_pid() {
  local pidfile=$1 pid deadline
  if ! alive "$pidfile"; then
    rm -f "$pidfile"
    return 0
  fi
  read -r pid <"$pidfile"
  if [[ ${2:-} != KILL ]]; then
    kill -TERM "$pid" 2>/dev/null || true
    deadline=$((SECONDS + 30))
    while alive "$pidfile" && ((SECONDS < deadline)); do sleep 0.05; done
  fi
  if alive "$pidfile"; then
    [[ ${2:-} == KILL ]] || say "process $pid did not end within 30 s: it is killed"
    kill -KILL "$pid" 2>/dev/null || true
    deadline=$((SECONDS + 30))
    while alive "$pidfile" && ((SECONDS < deadline)); do sleep 0.02; done
  fi
  if alive "$pidfile"; then fail "process $pid does not end"; fi
  rm -f "$pidfile"
}

# started PID: when that process started, in a form that only compares; empty when there is none.
started() {
  local stat fields
  if [[ -d /proc/self ]]; then
    # The second field is a name that may hold blanks: what counts comes after its last bracket.
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} == Z || ${fields[0]} == X ]] || printf '%s\n' "${fields[19]}"
  elif [[ $(ps -o stat= -p "$1" 2>/dev/null) != Z* ]]; then
    ps -o lstart= -p "$1" 2>/dev/null || true
  fi
}
