/**
 * Bandwidth: pieces flow from an uplink to a downlink, each shared by its flows. Every port (an uplink or a downlink) has a level,
 * the fair share of those of its flows that the other end does not hold below it; a flow runs at the lower of its two levels.
 * When a flow starts or ends, its two ports are levelled anew: first the flows above their level slow down, then the others take
 * what is free at both of their ends. A change does not spread further than to the flows of the two ports.
 *
 * Known bias: this is max-min fairness with news that travels one port at a time, so a rate freed at a third port is taken up only at
 * that port's next start or end of a flow. No capacity is ever exceeded, so the model errs on the slow side, by a few per cent
 * while many flows end; it knows no slow start, no loss, no switch between the hosts and no cost of messages, which errs on
 * the fast side for pieces that take less than a few round trips.
 */

/** One direction of one host's connection to the network. */
export class Port {
  /** Bytes per millisecond. */
  readonly capacity: number;
  readonly flows: Flow[] = [];
  level: number;
  used = 0;

  /** `bytesPerSec` is more than 0. */
  constructor(bytesPerSec: number) {
    this.capacity = bytesPerSec / 1000;
    this.level = this.capacity;
  }
}

/** Bytes on their way. Times are milliseconds, rates bytes per millisecond. */
export class Flow {
  readonly up: Port;
  readonly down: Port;
  rate = 0;
  /** When it ends at its present rate. */
  finishMs = Number.POSITIVE_INFINITY;
  /** The time of the event that will look at it; kept by the owner. */
  scheduledMs = Number.POSITIVE_INFINITY;
  #leftBytes: number;
  #updatedMs: number;

  constructor(up: Port, down: Port, sizeBytes: number, nowMs: number) {
    this.up = up;
    this.down = down;
    this.#leftBytes = sizeBytes;
    this.#updatedMs = nowMs;
  }

  /** Bytes that have not left yet, as of `nowMs`. */
  leftBytes(nowMs: number): number {
    return Math.max(0, this.#leftBytes - this.rate * (nowMs - this.#updatedMs));
  }

  /** Changes the rate; both ports are told. */
  setRate(rate: number, nowMs: number): void {
    this.#leftBytes = this.leftBytes(nowMs);
    this.#updatedMs = nowMs;
    this.up.used += rate - this.rate;
    this.down.used += rate - this.rate;
    this.rate = rate;
    this.finishMs = rate > 0 ? nowMs + this.#leftBytes / rate : Number.POSITIVE_INFINITY;
  }
}

/** Changes of less than this share are not worth an event. */
const tolerance = 1e-3;

/** Starts a flow. `onFaster` hears of every flow that now ends earlier than before, this one included. */
export function startFlow(flow: Flow, nowMs: number, onFaster: (flow: Flow) => void): void {
  flow.up.flows.push(flow);
  flow.down.flows.push(flow);
  setLevel(flow.up);
  setLevel(flow.down);
  slowDown(flow.up, nowMs);
  slowDown(flow.down, nowMs);
  speedUp(flow.up, nowMs, onFaster);
  speedUp(flow.down, nowMs, onFaster);
}

/** Ends a flow, whether it is through or not. */
export function endFlow(flow: Flow, nowMs: number, onFaster: (flow: Flow) => void): void {
  flow.setRate(0, nowMs);
  remove(flow.up, flow);
  remove(flow.down, flow);
  setLevel(flow.up);
  setLevel(flow.down);
  speedUp(flow.up, nowMs, onFaster);
  speedUp(flow.down, nowMs, onFaster);
}

/**
 * Fills the port up: flows whose other end holds them lower take what they get there, the rest share the remainder evenly. Each
 * round fixes the flows below the share so far; the share only grows, so the rounds end.
 */
function setLevel(port: Port): void {
  const { flows } = port;
  let share = flows.length === 0 ? port.capacity : port.capacity / flows.length;
  for (let fixedBefore = 0; ; ) {
    let fixed = 0;
    let fixedRate = 0;
    let highest = 0;
    for (const flow of flows) {
      const other = otherLevel(flow, port);
      if (other >= share) continue;
      fixed += 1;
      fixedRate += other;
      if (other > highest) highest = other;
    }
    // Not "equal": rounding may take one back.
    if (fixed <= fixedBefore) break;
    fixedBefore = fixed;
    if (fixed === flows.length) {
      // Nobody is held back here; this is what one of them could take.
      share = highest + port.capacity - fixedRate;
      break;
    }
    share = (port.capacity - fixedRate) / (flows.length - fixed);
  }
  port.level = share;
}

function slowDown(port: Port, nowMs: number): void {
  const { flows } = port;
  for (const flow of flows) {
    const target = Math.min(flow.up.level, flow.down.level);
    if (target < flow.rate * (1 - tolerance)) flow.setRate(target, nowMs);
  }
}

function speedUp(port: Port, nowMs: number, onFaster: (flow: Flow) => void): void {
  const { flows } = port;
  for (const flow of flows) {
    const { up, down } = flow;
    const free = Math.min(up.capacity - up.used, down.capacity - down.used);
    const target = Math.min(up.level, down.level, flow.rate + free);
    if (target <= flow.rate * (1 + tolerance)) continue;
    const finishMs = flow.finishMs;
    flow.setRate(target, nowMs);
    if (flow.finishMs < finishMs) onFaster(flow);
  }
}

function otherLevel(flow: Flow, port: Port): number {
  return flow.up === port ? flow.down.level : flow.up.level;
}

function remove(port: Port, flow: Flow): void {
  const { flows } = port;
  const at = flows.indexOf(flow);
  const last = flows.pop();
  if (last !== undefined && last !== flow) flows[at] = last;
  // No rounding error outlives a pause.
  if (flows.length === 0) port.used = 0;
}
