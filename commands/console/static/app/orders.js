// The commands of one device, newest first, kept up by live events.
import { useCallback, useEffect, useRef, useState } from './html.js';
import { get, hubNow, query } from './api.js';
import { announce } from './announce.js';
import { isFinal, merge, stateWord, withState } from './command.js';
import { on, onSubscribed } from './live.js';

export const shownOrders = 20;
const detailSoonMs = 150;

// useOrders answers {commands, problem, take}; take adds a command that was just sent.
export function useOrders(device) {
  const [commands, setCommands] = useState(null);
  const [problem, setProblem] = useState(null);
  const timers = useRef(new Map());

  const take = useCallback((command) => setCommands((before) => place(before ?? [], command)), []);
  const fetchOne = useCallback(async (id) => {
    try {
      take(await get(`/commands/${encodeURIComponent(id)}`));
    } catch {
      // The state itself came live; its exact times come with the next event or fetch.
    }
  }, [take]);
  const fetchAll = useCallback(async () => {
    try {
      const answer = await get(`/commands${query({ device, limit: shownOrders })}`);
      const listed = answer.commands ?? [];
      setCommands((before) => listed.reduce(place, before ?? []));
      if (listed.length) fetchOne(listed[0].id); // the newest is shown open; lists carry no time lines
      setProblem(null);
    } catch (fault) {
      setProblem(fault);
    }
  }, [device, fetchOne]);

  useEffect(() => {
    setCommands(null);
    fetchAll();
    const soon = timers.current;
    const forget = [onSubscribed(fetchAll), on('command', ({ command }) => {
      if (command?.device !== device) return;
      take(withState(command, hubNow()));
      if (isFinal(command)) announce(`Command ${command.name} ${stateWord(command.state)}`);
      clearTimeout(soon.get(command.id));
      soon.set(command.id, setTimeout(() => { soon.delete(command.id); fetchOne(command.id); }, detailSoonMs));
    })];
    return () => {
      for (const stop of forget) stop();
      for (const timer of soon.values()) clearTimeout(timer);
      soon.clear();
    };
  }, [device]);

  return { commands, problem, take, fetchOne, fetchAll };
}

// place puts a command where it belongs, merged with what is known of it.
function place(commands, command) {
  const known = commands.find((c) => c.id === command.id);
  const merged = merge(known, command);
  const rest = commands.filter((c) => c.id !== command.id);
  return [...rest, merged].sort((a, b) => (b.created ?? 0) - (a.created ?? 0)).slice(0, shownOrders);
}
