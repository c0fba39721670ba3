// The demo page. window.sluiceDemo holds all that was measured, for tests and for the curious; times are ms since 1970.
// ?direct: straight to the sample upstream, without the gateway's /on and /off routes; ?auto=0: nothing starts by itself; ?auto=all: everything does.
const query = new URLSearchParams(location.search);
const prefix = query.has('direct') ? { on: '', off: '', plain: '/bunched' } : { on: '/on', off: '/off', plain: '/plain' };
const find = (selector, root = document) => root.querySelector(selector);
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const now = () => Date.now() + state.clockOffset;
const stream = () => ({ events: [], running: false, done: false, error: null });

const state = window.sluiceDemo = {
  ready: false,
  clockOffset: 0,
  on: stream(),
  off: stream(),
  plain: stream(),
  llm: stream(),
  ndjson: stream(),
  ws: { messages: [], open: false, error: null },
  download: { on: null, off: null },
  runEvents, runDownload, runLlm, runNdjson, sendMessage,
};

// ---- reading

/** Calls line(text) for each line of a body as soon as it is complete. */
async function readLines(response, line) {
  if (!response.ok) throw new Error(`status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const text of lines) line(text);
  }
}

/** Calls message(data) for each event of an event stream. */
function readEvents(response, message) {
  let data = [];
  return readLines(response, text => {
    if (text.startsWith('data:')) data.push(text.slice(5).trimStart());
    else if (text === '' && data.length > 0) { message(data.join('\n')); data = []; }
  });
}

function withEventSource(url, message) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    source.onmessage = event => { if (message(event.data)) { source.close(); resolve(); } };
    source.onerror = () => { source.close(); reject(new Error('the stream broke')); };
  });
}

/** Runs work with the bookkeeping that all parts share. */
async function tracked(record, element, work) {
  record.running = true;
  element.dataset.state = 'running';
  try {
    await work();
    record.done = true;
  } catch (error) {
    record.error = String(error.message ?? error);
  }
  record.running = false;
  element.dataset.state = record.error ? 'failed' : 'done';
}

// ---- event streams side by side

async function runEvents({ framing = 'chunked', transport = 'eventsource', count = 15, interval = 200 } = {}) {
  await Promise.all(['plain', 'on', 'off'].map(side => {
    const record = state[side] = stream();
    const article = find(`.stream[data-side=${side}]`);
    const url = `${prefix[side]}/events/${framing}?n=${count}&interval_ms=${interval}`;
    const take = data => {
      const { id, sent } = JSON.parse(data);
      record.events.push({ id, sent, arrived: now() });
      return id === count;
    };
    const drawing = setInterval(() => draw(article, record, count, interval), 50);
    return tracked(record, article, async () => {
      if (transport === 'eventsource') await withEventSource(url, take);
      else await readEvents(await fetch(url, { cache: 'no-store' }), take);
      if (record.events.length !== count) throw new Error(`${record.events.length} of ${count} events`);
    }).finally(() => { clearInterval(drawing); draw(article, record, count, interval); });
  }));
}

function draw(article, record, count, interval) {
  const svg = find('.timeline', article), { events } = record;
  const width = svg.clientWidth || 500, left = 58, right = 14, sentAt = 30, arrivedAt = 88;
  const start = events[0]?.sent ?? 0;
  const span = Math.max((count - 1) * interval * 1.03, (events.at(-1)?.arrived ?? 0) - start, 200);
  const x = time => left + (time - start) / span * (width - left - right);
  const parts = [text(0, sentAt + 4, 'sent'), text(0, arrivedAt + 4, 'arrived')];
  for (const y of [sentAt, arrivedAt]) parts.push(`<line class="lane" x1="${left}" x2="${width - right}" y1="${y}" y2="${y}"/>`);
  const step = tickStep(span, width - left - right);
  for (let at = 0; at <= span; at += step) {
    parts.push(`<line class="tick" x1="${x(start + at)}" x2="${x(start + at)}" y1="118" y2="122"/>`,
      text(x(start + at), 131, at >= 1000 || at === 0 ? `${at / 1000} s` : `${at} ms`, 'middle'));
  }
  const roomForGaps = (width - left - right) / count > 27;
  events.forEach((event, index) => {
    parts.push(`<line class="flight" x1="${x(event.sent)}" x2="${x(event.arrived)}" y1="${sentAt}" y2="${arrivedAt}"/>`,
      dot('sent', event, event.sent, sentAt), dot('arrived', event, event.arrived, arrivedAt));
    if (index > 0 && roomForGaps) {
      const before = events[index - 1];
      parts.push(text((x(before.arrived) + x(event.arrived)) / 2, arrivedAt + 19, event.arrived - before.arrived, 'middle'));
    }
  });
  svg.innerHTML = parts.join('');

  const lags = events.map(event => event.arrived - event.sent);
  const gaps = events.slice(1).map((event, index) => event.arrived - events[index].arrived);
  figures(article, [
    ['events', `${events.length} of ${count}`],
    ['largest lag', lags.length ? `${Math.max(...lags)} ms` : '–', Math.max(0, ...lags) > 100],
    ['gaps', gaps.length ? `${Math.min(...gaps)}–${Math.max(...gaps)} ms` : '–'],
    ...(record.error ? [['failed', record.error, true]] : []),
  ]);
  find('tbody', article).innerHTML = events.map((event, index) =>
    `<tr><td>${event.id}<td>${event.sent - start}<td>${event.arrived - start}<td>${lags[index]}<td>${gaps[index - 1] ?? ''}</tr>`).join('');

  function dot(kind, event, time, y) {
    const lag = event.arrived - event.sent;
    return `<circle class="${kind}" cx="${x(time)}" cy="${y}" r="4.5" data-id="${event.id}" data-lag="${lag}">` +
      `<title>event ${event.id}: ${lag} ms after it was sent</title></circle>`;
  }
}

/** Milliseconds between two ticks, so that their labels have room. */
const tickStep = (span, width) =>
  [100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000].find(size => span / size <= Math.max(2, Math.min(8, width / 48))) ?? span;

const text = (x, y, content, anchor = 'start') => `<text x="${x}" y="${y}" text-anchor="${anchor}">${content}</text>`;

function figures(root, entries) {
  const list = find('.figures', root);
  list.replaceChildren(...entries.map(([name, value, bad]) => {
    const entry = document.createElement('div');
    entry.className = bad ? 'bad' : '';
    entry.append(Object.assign(document.createElement('dt'), { textContent: name }),
      Object.assign(document.createElement('dd'), { textContent: value }));
    return entry;
  }));
}

// ---- which rule decided, and where to go on

/** The gateway says it itself: in a header of each response, and in the Control API. */
async function showRules() {
  const { control } = await (await fetch('/demo/links', { cache: 'no-store' })).json();
  await Promise.all(['on', 'off'].map(async side => {
    const line = find('.rule', find(`.stream[data-side=${side}]`));
    const response = await fetch(`${prefix[side]}/events/chunked?n=1`, { cache: 'no-store' });
    await response.text();
    const rule = response.headers.get('X-Sluice-Buffering');
    if (!rule) return;
    const [decided, by] = rule.split('; ');
    line.textContent = `${decided}, decided by ${by} `;
    if (control) {
      const href = `${control}/v1/buffering?uri=${prefix[side]}/events/chunked&content_type=text/event-stream`;
      line.append(Object.assign(document.createElement('a'), { href, textContent: 'ask the Control API' }));
    }
  }));
  for (const link of document.querySelectorAll('a[data-control]')) {
    if (control) link.href = control + link.dataset.control; else link.removeAttribute('href');
  }
}

// ---- large download, slow reader

async function runDownload({ megabytes = 40, rate = 8 } = {}) {
  await Promise.all(['on', 'off'].map(side => downloadOne(side, megabytes, rate * 1024 * 1024)));
}

async function downloadOne(side, megabytes, rate) {
  const article = find(`.download[data-side=${side}]`);
  const id = `${side}-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;
  const total = megabytes * 1024 * 1024;
  const record = state.download[side] = {
    ...stream(), id, total, upstreamSent: 0, received: 0, upstreamSeconds: null, clientSeconds: null, samples: [],
  };
  const start = performance.now();
  const watching = watch();
  await tracked(record, article, async () => {
    const response = await fetch(`${prefix[side]}/download?mb=${megabytes}&id=${id}`, { cache: 'no-store' });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const reader = response.body.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      record.received += value.length;
      const ahead = record.received / rate * 1000 - (performance.now() - start);
      if (ahead > 0) await pause(ahead);
    }
    if (record.received !== total) throw new Error(`${record.received} of ${total} bytes`);
    record.clientSeconds = (performance.now() - start) / 1000;
  });
  await watching;
  show();

  async function watch() {
    while (!record.done && !record.error || record.done && record.upstreamSeconds === null) {
      await pause(150);
      const response = await fetch(`${prefix[side]}/download/progress?id=${id}`, { cache: 'no-store' }).catch(() => null);
      if (response?.ok) {
        const progress = await response.json();
        record.upstreamSent = progress.sent;
        if (progress.finished !== null) record.upstreamSeconds = (progress.finished - progress.started) / 1000;
        if (progress.aborted) record.error ??= 'the upstream was cut off';
      }
      record.samples.push({ seconds: (performance.now() - start) / 1000, upstream: record.upstreamSent, client: record.received });
      show();
    }
  }

  function show() {
    bar('upstream', record.upstreamSent, record.upstreamSeconds);
    bar('client', record.received, record.clientSeconds);
    drawDownload(find('.chart', article), record, megabytes, Math.max(megabytes * 1024 * 1024 / rate, record.samples.at(-1)?.seconds ?? 0));
    const verdict = find('.verdict', article);
    verdict.classList.toggle('bad', Boolean(record.error));
    verdict.textContent = record.error ? `failed: ${record.error}`
      : record.upstreamSeconds === null ? 'the upstream is still busy'
      : `upstream free after ${record.upstreamSeconds.toFixed(1)} s` +
        (record.clientSeconds === null ? ', the page still reads' : `, page done after ${record.clientSeconds.toFixed(1)} s`);
  }

  function bar(kind, bytes, seconds) {
    const row = find(`.bar.${kind}`, article);
    find('progress', row).value = bytes / total;
    find('output', row).textContent = `${(bytes / 1048576).toFixed(1)} MB${seconds === null ? '' : ` · ${seconds.toFixed(1)} s`}`;
  }
}

/** Two lines over time: what the upstream has sent, what the page has received. */
function drawDownload(svg, record, megabytes, seconds) {
  const width = svg.clientWidth || 500, left = 44, right = 10, top = 8, bottom = 100;
  const x = time => left + time / seconds * (width - left - right);
  const y = bytes => bottom - bytes / record.total * (bottom - top);
  const end = { upstream: record.upstreamSeconds, client: record.clientSeconds };
  const line = kind => {
    const points = [{ seconds: 0, [kind]: 0 }, ...record.samples.filter(sample => end[kind] === null || sample.seconds < end[kind])];
    if (end[kind] !== null) points.push({ seconds: end[kind], [kind]: record.total }, { seconds, [kind]: record.total });
    return `<polyline class="${kind}" points="${points.map(point => `${x(point.seconds).toFixed(1)},${y(point[kind]).toFixed(1)}`).join(' ')}"/>`;
  };
  const parts = [
    text(0, top + 5, `${megabytes} MB`), text(0, bottom, '0'),
    `<line class="lane" x1="${left}" x2="${width - right}" y1="${bottom}" y2="${bottom}"/>`,
    `<line class="lane" x1="${left}" x2="${width - right}" y1="${top}" y2="${top}"/>`,
    `<text class="key upstream" x="${width - right}" y="${bottom - 24}" text-anchor="end">upstream sent</text>`,
    `<text class="key client" x="${width - right}" y="${bottom - 8}" text-anchor="end">page received</text>`,
    line('upstream'), line('client'),
  ];
  const step = tickStep(seconds * 1000, width - left - right) / 1000;
  for (let at = 0; at <= seconds; at += step) parts.push(text(x(at), bottom + 16, `${at} s`, 'middle'));
  svg.innerHTML = parts.join('');
}

// ---- tokens

async function runLlm({ prompt = '' } = {}) {
  const section = find('#llm'), output = find('#llm-text');
  const record = state.llm = stream();
  const start = now();
  output.textContent = '';
  await tracked(record, section, async () => {
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ model: 'sluice-demo', stream: true, messages: [{ role: 'user', content: prompt }] }),
    });
    let ended = false;
    await readEvents(response, data => {
      if (data === '[DONE]') { ended = true; return; }
      const { sent, choices } = JSON.parse(data);
      const content = choices[0].delta.content;
      if (content === undefined) return;
      record.events.push({ id: record.events.length + 1, sent, arrived: now(), text: content });
      output.append(content);
      show();
    });
    if (!ended) throw new Error('the stream ended without [DONE]');
  });
  show();

  function show() {
    const { events } = record;
    figures(section, [
      ['tokens', events.length],
      ['first token after', events.length ? `${events[0].arrived - start} ms` : '–'],
      ['largest lag', events.length ? `${Math.max(...events.map(event => event.arrived - event.sent))} ms` : '–'],
      ...(record.error ? [['failed', record.error, true]] : []),
    ]);
  }
}

// ---- lines

async function runNdjson({ count = 12, interval = 150 } = {}) {
  const section = find('#ndjson'), list = find('#ndjson-lines');
  const record = state.ndjson = stream();
  list.replaceChildren();
  await tracked(record, section, async () => {
    await readLines(await fetch(`${prefix.off}/ndjson?n=${count}&interval_ms=${interval}`, { cache: 'no-store' }), line => {
      if (line === '') return;
      const { id, sent } = JSON.parse(line);
      const event = { id, sent, arrived: now() };
      record.events.push(event);
      append(list, line, `${event.arrived - sent} ms`);
    });
  });
  figures(section, [
    ['lines', record.events.length],
    ['largest lag', record.events.length ? `${Math.max(...record.events.map(event => event.arrived - event.sent))} ms` : '–'],
    ...(record.error ? [['failed', record.error, true]] : []),
  ]);
}

function append(list, left, right) {
  const item = document.createElement('li');
  item.append(Object.assign(document.createElement('span'), { textContent: left }),
    Object.assign(document.createElement('span'), { textContent: right }));
  list.append(item);
  list.scrollTop = list.scrollHeight;
}

// ---- WebSocket

let socket = null;

function sendMessage(message) {
  const section = find('#ws'), list = find('#ws-lines');
  if (socket === null || socket.readyState > WebSocket.OPEN) {
    socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`);
    socket.onopen = () => { state.ws.open = true; section.dataset.state = 'open'; };
    socket.onclose = () => { state.ws.open = false; section.dataset.state = 'closed'; };
    socket.onerror = () => { state.ws.error = 'the connection failed'; append(list, 'the connection failed', ''); };
    socket.onmessage = ({ data }) => {
      const { id, sent, text: echoed } = JSON.parse(data);
      const arrived = Date.now();
      state.ws.messages.push({ id, sent, arrived, text: echoed });
      append(list, echoed, `${arrived - sent} ms`);
    };
  }
  const send = () => socket.send(JSON.stringify({ id: state.ws.messages.length + 1, sent: Date.now(), text: message }));
  if (socket.readyState === WebSocket.OPEN) send();
  else socket.addEventListener('open', send, { once: true });
}

// ---- start

/** The upstream's clock against ours: the round trip with the least delay tells the difference. */
async function compareClocks() {
  let best = null;
  for (let round = 0; round < 5; round++) {
    const before = Date.now();
    const response = await fetch(`${prefix.off}/clock`, { cache: 'no-store' });
    const { now: theirs } = await response.json();
    const after = Date.now();
    if (best === null || after - before < best.trip) best = { trip: after - before, offset: theirs - (before + after) / 2 };
  }
  // on one machine there is nothing to correct
  if (Math.abs(best.offset) > best.trip / 2 + 10) {
    state.clockOffset = Math.round(best.offset);
    find('#clock').textContent = `This machine's clock and the upstream's differ by ${state.clockOffset} ms; the times shown are corrected for that.`;
  }
}

function onSubmit(form, button, work) {
  find(form).addEventListener('submit', async event => {
    event.preventDefault();
    find(button).disabled = true;
    try { await work(); } finally { find(button).disabled = false; }
  });
}

const number = selector => Math.max(find(selector).min, Math.min(find(selector).max, find(selector).valueAsNumber || 0));
onSubmit('#events-form', '#events-start', () => runEvents({
  framing: find('#framing').value, transport: find('#transport').value, count: number('#count'), interval: number('#interval'),
}));
onSubmit('#download-form', '#download-start', () => runDownload({ megabytes: number('#megabytes'), rate: number('#rate') }));
onSubmit('#llm-form', '#llm-start', () => runLlm({ prompt: find('#prompt').value }));
onSubmit('#ndjson-form', '#ndjson-start', () => runNdjson());
onSubmit('#ws-form', '#ws-send', () => sendMessage(find('#ws-message').value));

await showRules().catch(() => {});
await compareClocks().catch(() => { find('#clock').textContent = 'The upstream does not answer.'; });
state.ready = true;
document.documentElement.dataset.ready = 'true';
const forms = { 0: [], all: ['events', 'download', 'llm', 'ndjson', 'ws'] }[query.get('auto')] ?? ['events'];
for (const form of forms) find(`#${form}-form`).requestSubmit();
