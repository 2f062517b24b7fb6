# Faults for a farm of processes: who is hit, how and when comes from one number, the seed. For tests/torture.sh and
# tests/soak.sh, which have
#     pid[NAME] born[NAME]       what runs, and since when          launch NAME    starts it and sets both
#     again[NAME] frozen[NAME]   0, or the ms at which it is started again, or continued
#     spared[NAME]               is stopped and continued only      log_of NAME    where its words go
#     where                      for messages: what is going on     now            ms; now_ms sets it
declare -A spared=()
killed=0 stops=0 terms=0 where=

# Numbers from the seed: splitmix64.
state=$seed
draw() { # N: sets drawn to 0 .. N-1
  local z
  state=$((state + 0x9e3779b97f4a7c15)); z=$state
  z=$(((z ^ (z >> 30 & 0x3ffffffff)) * 0xbf58476d1ce4e5b9))
  z=$(((z ^ (z >> 27 & 0x1fffffffff)) * 0x94d049bb133111eb))
  drawn=$((((z ^ (z >> 31 & 0x1ffffffff)) & 0x7fffffffffffffff) % $1))
}
now_ms() { local t=${EPOCHREALTIME/[.,]/}; now=$((t / 1000)); }

# Gone by itself? A process may ask to be started again (75); every other end is a failure of the round.
look_after() {
  local name code
  for name in "${!pid[@]}"; do
    if [ "${again[$name]}" != 0 ]; then
      [ "$now" -lt "${again[$name]}" ] || { again[$name]=0; launch "$name"; }
    elif [ "${frozen[$name]}" != 0 ] && [ "$now" -ge "${frozen[$name]}" ]; then
      kill -CONT "${pid[$name]}" 2>/dev/null
      frozen[$name]=0
    elif ! kill -0 "${pid[$name]}" 2>/dev/null; then
      wait "${pid[$name]}" && code=0 || code=$?
      if [ $code = 75 ]; then
        draw 300; again[$name]=$((now + drawn))
      else
        bad "$where: the $name ended by itself with exit code $code"
        tail -5 "$(log_of "$name")"
        return 1
      fi
    fi
  done
}

hit() { # NAME...: one of them, one way
  local name way
  draw $#; name=${*:$((drawn + 1)):1}
  draw 100; way=$drawn
  [ -z "${spared[$name]:-}" ] || way=0
  [ "${again[$name]}" = 0 ] || return 0
  if [ $way -lt 20 ]; then
    [ "${frozen[$name]}" = 0 ] || return 0
    draw 1500
    kill -STOP "${pid[$name]}" && frozen[$name]=$((now + 20 + drawn)) stops=$((stops + 1))
    return 0
  fi
  if [ $way -lt 30 ]; then # asked to leave: it must, with 0 (or 75 from a start that was not finished)
    [ "${frozen[$name]}" = 0 ] || return 0
    local code=0 until=$((now + 25000))
    kill -TERM "${pid[$name]}" 2>/dev/null
    while kill -0 "${pid[$name]}" 2>/dev/null && [ $now -lt $until ]; do sleep 0.01; now_ms; done
    kill -0 "${pid[$name]}" 2>/dev/null && bad "$where: the $name does not leave within 25 s of SIGTERM"
    wait "${pid[$name]}" || code=$?
    # Before a process has begun to listen for it, SIGTERM ends it as it ends any program.
    [ $code != 143 ] || [ $((now - born[$name])) -gt 2000 ] || code=0
    case $code in 0 | 75) ;; *) bad "$where: asked to leave, the $name ended with exit code $code"; tail -5 "$(log_of "$name")" ;; esac
    terms=$((terms + 1))
  else
    kill -KILL "${pid[$name]}" 2>/dev/null
    wait "${pid[$name]}" 2>/dev/null
    killed=$((killed + 1))
  fi
  frozen[$name]=0
  draw 400; again[$name]=$((now + drawn))
}
