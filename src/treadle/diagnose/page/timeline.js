"use strict";
(async () => {
  const TASK = 0, WAIT = 1, SPAN = 2, MOMENT = 3;
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);

  // -- what there is

  async function unpack(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Kind(await new Response(stream).arrayBuffer());
  }
  const c = data.columns;
  let row, lane, begin, length, label, number, inside, arrows, arrowRows;
  try {
    [row, lane, begin, length, label, number, inside, arrows, arrowRows] = await Promise.all([
      unpack(c.row, Uint16Array), unpack(c.lane, Uint8Array), unpack(c.begin, Float64Array), unpack(c.length, Float64Array),
      unpack(c.label, Uint32Array), unpack(c.number, Int32Array), unpack(c.inside, Uint8Array),
      unpack(c.arrows, Float64Array), unpack(c.arrowRows, Uint16Array)]);
  } catch (error) {
    return complain("This browser is too old for this page: it can't unpack data. (" + error + ")");
  }
  const count = begin.length, labels = data.labels, rows = data.rows;
  const whole = Math.max(data.duration, 1e-3);
  const kindOf = (i) => labels[label[i]][1];

  function complain(text) {
    $("notice").textContent += ($("notice").textContent ? " " : "") + text;
    $("notice").hidden = false;
  }

  // Where each lane of each row begins in the columns: lanes[r][k] = [first, behind the last].
  const lanes = rows.map(() => []);
  for (let i = 0; i < count;) {
    let j = i;
    while (j < count && row[j] === row[i] && lane[j] === lane[i]) j++;
    lanes[row[i]][lane[i]] = [i, j];
    i = j;
  }

  // -- words

  const UNITS = [[1e6, "s"], [1e3, "ms"], [1, "µs"], [1e-3, "ns"]];
  function span(us) { // a duration, to three digits
    if (us >= 60e6) return Math.floor(us / 60e6) + " min " + ((us % 60e6) / 1e6).toFixed(1) + " s";
    if (us <= 0) return "0 s";
    const [size, unit] = UNITS.find((u) => us >= u[0] * 0.9995) || UNITS[3];
    const value = us / size;
    return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2) + " " + unit;
  }
  function moment(us, step) { // a point in time, as exact as the step
    const [size, unit] = us >= 1e6 || step >= 1e6 ? UNITS[0] : us >= 1e3 || step >= 1e3 ? UNITS[1] : UNITS[2];
    const digits = Math.max(0, Math.min(9, -Math.floor(Math.log10(step / size) + 1e-9)));
    return (us / size).toFixed(digits) + " " + unit;
  }
  const whole_number = (n) => n.toLocaleString("en-US");
  const threadName = (r) => {
    const [pid, tid, process, name] = rows[r];
    return name === "MainThread" ? process : process + " / " + name;
  };
  function element(tag, text, kind) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  // -- one look at everything: totals, the longest waits, tasks by name

  const tasks = new Map(); // name -> {name, runs, failed, total, lengths}
  const waitKinds = new Map();
  const longest = [];
  let runs = 0, failed = 0, waits = 0, unfinished = 0, running = 0, waited = 0, spans = 0;
  const workers = new Set();
  for (let i = 0; i < count; i++) {
    const [text, kind, , wrong] = labels[label[i]];
    if (kind === TASK) {
      let entry = tasks.get(text);
      if (!entry) tasks.set(text, entry = { name: text, runs: 0, failed: 0, total: 0, lengths: [] });
      entry.runs++; entry.failed += wrong; entry.total += length[i]; entry.lengths.push(length[i]);
      runs++; failed += wrong; running += length[i]; workers.add(row[i]);
    } else if (kind === WAIT) {
      waits++;
      waitKinds.set(text, (waitKinds.get(text) || 0) + length[i]);
      if (inside[i] === 1) waited += length[i];
      if (longest.length < 10 || length[i] > length[longest[9]]) {
        longest.push(i);
        longest.sort((a, b) => length[b] - length[a]);
        longest.length = Math.min(10, longest.length);
      }
    } else if (kind === SPAN) spans++;
  }
  const byTotal = [...tasks.values()].sort((a, b) => b.total - a.total);

  // -- colours: Okabe and Ito's, which stay apart for every kind of colour vision; waits are hatched besides

  const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"];
  const INK_ON = ["#fff", "#111", "#fff", "#111", "#111", "#fff", "#111"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hueOf = new Map(byTotal.map((entry, at) => [entry.name, at % HUES.length]));
  const WAIT_HUES = { "wait: lock": "#d55e00", "wait: rlock": "#d55e00", "wait: queue get": "#8e5ea2", "wait: queue put": "#8e5ea2",
    "wait: queue join": "#8e5ea2" };
  const colour = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["page", "panel", "ink", "soft", "line", "band", "accent", "wait", "bad", "shade"])
      colour[name] = style.getPropertyValue("--" + name).trim();
  }
  readColours();
  let patterns = new Map();
  function hatch(context, hue) {
    let pattern = patterns.get(hue);
    if (!pattern) {
      const tile = document.createElement("canvas");
      tile.width = tile.height = 6;
      const pen = tile.getContext("2d");
      pen.fillStyle = hue; pen.globalAlpha = 0.25; pen.fillRect(0, 0, 6, 6); pen.globalAlpha = 1;
      pen.strokeStyle = hue; pen.lineWidth = 1.5;
      pen.beginPath();
      for (const d of [-3, 3, 9]) { pen.moveTo(d - 3, 6 + 3 - 3); pen.lineTo(d + 6 - 3, -3 + 3); }
      pen.stroke();
      patterns.set(hue, pattern = context.createPattern(tile, "repeat"));
    }
    return pattern;
  }
  const waitHue = (text) => WAIT_HUES[text] || colour.wait;

  // -- the layout of the rows

  const LANE = 20, GAP = 6, HEAD = 22;
  const places = []; // of each row: {y, height, label, title}
  const headings = []; // {y, text}
  let height = 4;
  {
    const threads = new Map();
    rows.forEach(([pid], r) => { if (lanes[r].length) threads.set(pid, (threads.get(pid) || 0) + 1); });
    let process = null;
    rows.forEach(([pid, tid, title, name], r) => {
      if (!lanes[r].length) { places[r] = null; return; }
      const alone = threads.get(pid) === 1;
      if (pid !== process) {
        process = pid;
        if (!alone) { headings.push({ y: height, text: title + "  ·  pid " + pid }); height += HEAD; }
      }
      const tall = lanes[r].length * LANE;
      places[r] = { y: height, height: tall, alone, label: alone ? title : name, more: alone ? "pid " + pid : "" };
      height += tall + GAP;
    });
    height += 8;
  }

  // -- what is shown

  const view = { from: 0, to: whole };
  const least = 0.05; // µs: nobody needs to zoom further in
  const rowsCanvas = $("rows"), useCanvas = $("use"), scroll = $("scroll");
  let width = 0, gutter = 0, hovered = -1, planned = false;

  function prepare(canvas, w, h) {
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
      canvas.style.width = w + "px"; canvas.style.height = h + "px";
      patterns = new Map();
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    pen.textBaseline = "middle";
    return pen;
  }
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const SMALL = '11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const BOLD = "600 " + FONT;

  function fitted(pen, text, room) { // what of a text has room
    if (pen.measureText(text).width <= room) return text;
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(text.slice(0, middle) + "…").width <= room) low = middle; else high = middle - 1;
    }
    return low > 0 ? text.slice(0, low) + "…" : "";
  }
  const scale = () => (width - gutter) / (view.to - view.from);
  const toX = (t) => gutter + (t - view.from) * scale();
  const toTime = (x) => view.from + (x - gutter) / scale();
  function ticks() {
    const wanted = (view.to - view.from) / Math.max(2, (width - gutter) / 130);
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = power * ([1, 2, 5, 10].find((f) => f * power >= wanted) || 10);
    const found = [];
    for (let k = Math.ceil(view.from / step - 1e-9); k * step <= view.to; k++) found.push(k * step);
    return { step, found };
  }

  function drawRows() {
    const h = Math.min(scroll.clientHeight, height);
    const pen = prepare(rowsCanvas, width, h), top = scroll.scrollTop, right = width;
    const perPixel = 1 / scale();
    for (const [r, place] of places.entries()) {
      if (!place || place.y + place.height < top || place.y > top + h) continue;
      pen.fillStyle = colour.band;
      pen.fillRect(gutter, place.y - top, right - gutter, place.height);
    }
    pen.strokeStyle = colour.line; pen.lineWidth = 1;
    pen.beginPath();
    for (const t of ticks().found) { const x = Math.round(toX(t)) + 0.5; pen.moveTo(x, 0); pen.lineTo(x, h); }
    pen.stroke();
    pen.save();
    pen.beginPath(); pen.rect(gutter, 0, right - gutter, h); pen.clip();
    for (const [r, place] of places.entries()) {
      if (!place || place.y + place.height < top || place.y > top + h) continue;
      for (let k = 0; k < lanes[r].length; k++)
        if (lanes[r][k]) drawLane(pen, lanes[r][k], place.y - top + k * LANE, perPixel);
    }
    if (hovered >= 0) drawHovered(pen, top);
    pen.restore();
    // The names, over what may be there.
    pen.font = BOLD; pen.fillStyle = colour.ink;
    for (const heading of headings)
      if (heading.y + HEAD > top && heading.y < top + h) pen.fillText(fitted(pen, heading.text, right - 16), 8, heading.y - top + HEAD / 2);
    for (const place of places) {
      if (!place || place.y + place.height < top || place.y > top + h) continue;
      const y = place.y - top + LANE / 2;
      pen.font = place.alone ? BOLD : FONT; pen.fillStyle = colour.ink;
      const left = place.alone ? 8 : 18, text = fitted(pen, place.label, gutter - left - 8);
      pen.fillText(text, left, y);
      const used = left + pen.measureText(text).width;
      pen.font = SMALL; pen.fillStyle = colour.soft;
      if (place.more && used + 12 + pen.measureText(place.more).width < gutter - 4) pen.fillText(place.more, used + 8, y);
    }
  }

  function firstAt([from, to], t) { // the first on a lane that ends after t; nothing overlaps there, so ends are sorted too
    let low = from, high = to;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (begin[middle] + length[middle] > t) high = middle; else low = middle + 1;
    }
    return low;
  }
  function firstFrom([from, to], t, low) { // the first that begins at t or later
    let high = to;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (begin[middle] >= t) high = middle; else low = middle + 1;
    }
    return low;
  }

  function drawLane(pen, range, y, perPixel) {
    pen.font = SMALL;
    let i = firstAt(range, view.from);
    while (i < range[1] && begin[i] <= view.to) {
      const x0 = Math.max(gutter - 2, toX(begin[i])), x1 = Math.min(width + 2, toX(begin[i] + length[i]));
      const [text, kind, , wrong] = labels[label[i]];
      const w = Math.max(1, x1 - x0);
      if (kind === TASK) pen.fillStyle = HUES[hueOf.get(text)];
      else if (kind === WAIT) pen.fillStyle = w < 3 ? waitHue(text) : hatch(pen, waitHue(text));
      else if (kind === SPAN) pen.fillStyle = spans && runs ? colour.shade : spanColour(text);
      else pen.fillStyle = colour.bad;
      if (kind === MOMENT) {
        pen.beginPath(); pen.moveTo(x0, y + 2); pen.lineTo(x0 + 5, y + LANE / 2); pen.lineTo(x0, y + LANE - 2); pen.lineTo(x0 - 5, y + LANE / 2); pen.fill();
      } else {
        const inset = kind === WAIT ? 4 : 2;
        pen.fillRect(x0, y + inset, w > 4 ? w - 0.5 : w, LANE - 2 * inset);
        if (wrong) { pen.fillStyle = colour.bad; pen.fillRect(x0, y + LANE - 5, w, 3); }
        if (w > 34 && kind !== WAIT) {
          const full = kind === TASK && number[i] >= 0 ? text + " " + number[i] : text;
          pen.fillStyle = kind === TASK ? INK_ON[hueOf.get(text)] : colour.ink;
          pen.fillText(fitted(pen, full, w - 10), x0 + 5, y + LANE / 2 + 0.5);
        } else if (w > 60 && kind === WAIT) {
          const room = w - 16, said = fitted(pen, waitText(i), room);
          if (said) {
            const wide = pen.measureText(said).width;
            pen.fillStyle = colour.panel; pen.fillRect(x0 + 4, y + 4, wide + 8, LANE - 8);
            pen.fillStyle = colour.ink; pen.fillText(said, x0 + 8, y + LANE / 2 + 0.5);
          }
        }
      }
      // What begins within the same pixel is not to be seen.
      i = x1 - x0 < 1 ? Math.max(i + 1, firstFrom(range, Math.max(begin[i], view.from) + perPixel, i)) : i + 1;
    }
  }
  const spanHues = new Map();
  function spanColour(text) { // another tool's trace: functions
    if (!spanHues.has(text)) spanHues.set(text, HUES[spanHues.size % HUES.length] + "66");
    return spanHues.get(text);
  }
  const detail = (i, name) => { const found = labels[label[i]][2].find((d) => d[0] === name); return found ? found[1] : ""; };
  const brief = (what) => what.replace(/ \(made at (?:.*\/)?([^/]*)\)$/, " ($1)");
  const waitText = (i) => "waits for " + brief(detail(i, "what") || labels[label[i]][0].replace(/^wait: /, ""));

  function drawHovered(pen, top) {
    const place = places[row[hovered]];
    const y = place.y - top + lane[hovered] * LANE;
    pen.strokeStyle = colour.ink; pen.lineWidth = 1.5;
    pen.strokeRect(toX(begin[hovered]), y + 1.5, Math.max(1, length[hovered] * scale()), LANE - 3);
    if (kindOf(hovered) !== TASK) return;
    for (let a = 0; a < arrowRows.length; a += 2) {
      if (arrowRows[a + 1] !== row[hovered] || Math.abs(arrows[a + 1] - begin[hovered]) > 0.002 || !places[arrowRows[a]]) continue;
      const source = places[arrowRows[a]];
      const x0 = toX(arrows[a]), y0 = source.y - top + LANE / 2, x1 = toX(begin[hovered]), y1 = y + LANE / 2;
      pen.beginPath(); pen.moveTo(x0, y0); pen.bezierCurveTo(x0 + 30, y0, x1 - 30, y1, x1, y1); pen.stroke();
      pen.beginPath(); pen.arc(x0, y0, 3, 0, 7); pen.fillStyle = colour.ink; pen.fill();
      pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x1 - 7, y1 - 4); pen.lineTo(x1 - 7, y1 + 4); pen.fill();
    }
  }

  // How many tasks (or, without tasks, threads) there are at a time, and how many of them wait.
  function usage(bins) {
    const busy = new Float64Array(bins + 1), idle = new Float64Array(bins + 1), size = (view.to - view.from) / bins;
    const kind = runs ? TASK : SPAN, flag = runs ? 1 : 2;
    const add = (into, from, to) => { // shares of bins; whole bins in between by differences
      const a = (from - view.from) / size, b = (to - view.from) / size, first = Math.floor(a), last = Math.floor(b);
      if (first === last) { into.part[first] += b - a; return; }
      into.part[first] += first + 1 - a;
      if (last < bins) into.part[last] += b - last;
      if (first + 1 < last) { into.change[first + 1]++; into.change[last]--; }
    };
    const sum = () => ({ part: new Float64Array(bins + 1), change: new Float64Array(bins + 2) });
    const all = sum(), some = sum();
    for (let i = 0; i < count; i++) {
      const from = begin[i], to = from + length[i];
      if (to <= view.from || from >= view.to) continue;
      const is = kindOf(i);
      if (is === kind && (kind === TASK || lane[i] === 0)) add(all, Math.max(from, view.from), Math.min(to, view.to));
      else if (is === WAIT && inside[i] === flag) add(some, Math.max(from, view.from), Math.min(to, view.to));
    }
    let a = 0, b = 0;
    for (let k = 0; k < bins; k++) {
      a += all.change[k]; b += some.change[k];
      busy[k] = a + all.part[k]; idle[k] = Math.min(b + some.part[k], busy[k]);
    }
    return { busy: busy.subarray(0, bins), idle: idle.subarray(0, bins) };
  }
  let used = null, usedFor = "";

  function drawUse() {
    const h = 96, bottom = 70, top = 18, pen = prepare(useCanvas, width, h);
    const bins = Math.max(10, Math.floor((width - gutter) / 2)), key = view.from + " " + view.to + " " + bins;
    if (usedFor !== key) { used = usage(bins); usedFor = key; }
    const { busy, idle } = used;
    const most = Math.max(1, Math.ceil(busy.reduce((a, b) => Math.max(a, b), 0) - 1e-6));
    const y = (value) => bottom - (value / most) * (bottom - top);
    pen.font = SMALL; pen.fillStyle = colour.soft; pen.textAlign = "right";
    pen.fillText(String(most), gutter - 6, top); pen.fillText("0", gutter - 6, bottom);
    pen.textAlign = "left"; pen.font = BOLD; pen.fillStyle = colour.ink;
    pen.fillText(runs ? "Tasks at a time" : "Threads at a time", 8, (top + bottom) / 2 - 8);
    pen.font = SMALL; pen.fillStyle = colour.soft;
    pen.fillText("hatched: they wait", 8, (top + bottom) / 2 + 8);
    pen.strokeStyle = colour.line; pen.beginPath();
    for (const value of [0, most]) { pen.moveTo(gutter, Math.round(y(value)) + 0.5); pen.lineTo(width, Math.round(y(value)) + 0.5); }
    pen.stroke();
    const area = (lower, upper, fill) => {
      pen.fillStyle = fill; pen.beginPath();
      const w = (width - gutter) / bins;
      for (let k = 0; k < bins; k++) {
        const a = y(upper(k)), b = y(lower(k));
        if (b - a > 0.05) pen.rect(gutter + k * w, a, w + 0.3, b - a);
      }
      pen.fill();
    };
    area(() => 0, (k) => busy[k] - idle[k], HUES[0]);
    area((k) => busy[k] - idle[k], (k) => busy[k], hatch(pen, colour.wait));
    const { step, found } = ticks();
    pen.fillStyle = colour.soft; pen.strokeStyle = colour.line; pen.textAlign = "center";
    pen.beginPath();
    for (const t of found) {
      const x = Math.round(toX(t)) + 0.5, text = moment(t, step), wide = pen.measureText(text).width / 2;
      pen.moveTo(x, bottom); pen.lineTo(x, h);
      if (x - wide > gutter - 30 && x + wide < width) { pen.fillStyle = colour.panel; pen.fillRect(x - wide - 3, bottom + 7, 2 * wide + 6, 14); }
    }
    pen.stroke();
    pen.fillStyle = colour.soft;
    for (const t of found) {
      const x = Math.round(toX(t)) + 0.5, text = moment(t, step), wide = pen.measureText(text).width / 2;
      if (x - wide > gutter - 30 && x + wide < width) pen.fillText(text, x, bottom + 14);
    }
    pen.textAlign = "left";
  }

  function draw() {
    planned = false;
    drawUse(); drawRows();
    const part = view.to - view.from >= whole * 0.9999;
    const step = (view.to - view.from) / 1000;
    $("range").textContent = part ? "all " + span(whole)
      : span(view.to - view.from) + " of " + span(whole) + ", from " + moment(view.from, step) + " on";
  }
  function plan() { if (!planned) { planned = true; requestAnimationFrame(draw); } }

  function show(from, to) {
    const size = Math.min(whole, Math.max(least, to - from));
    const start = Math.min(Math.max(0, from), whole - size);
    view.from = start; view.to = start + size;
    plan();
  }
  const zoom = (factor, at) => show(at - (at - view.from) * factor, at + (view.to - at) * factor);
  const middle = () => (view.from + view.to) / 2;
  const move = (share) => { const by = (view.to - view.from) * share; show(view.from + by, view.to + by); };
  function reveal(i) { // with some room on both sides, and its row in sight
    const size = Math.max(length[i] * 1.6, least * 4), center = begin[i] + length[i] / 2;
    show(center - size / 2, center + size / 2);
    const place = places[row[i]];
    if (place.y < scroll.scrollTop || place.y + place.height > scroll.scrollTop + scroll.clientHeight)
      scroll.scrollTop = place.y - scroll.clientHeight / 2;
    hovered = i;
  }

  function resize() {
    width = Math.max(320, scroll.clientWidth);
    gutter = Math.round(Math.min(230, width * 0.26));
    $("space").style.height = height + "px";
    drawHistogram();
    plan();
  }

  // -- pointing

  function under(event) {
    const box = rowsCanvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top + scroll.scrollTop;
    if (x < gutter) return -1;
    for (const [r, place] of places.entries()) {
      if (!place || y < place.y || y >= place.y + place.height) continue;
      const k = Math.floor((y - place.y) / LANE);
      if (!lanes[r][k]) return -1;
      const t = toTime(x), near = 3 / scale();
      let i = firstAt(lanes[r][k], t - near);
      if (i < lanes[r][k][1] && begin[i] > t + near) i = lanes[r][k][1];
      // The nearest, if it is thinner than the pointer.
      while (i + 1 < lanes[r][k][1] && begin[i] + length[i] < t && begin[i + 1] <= t) i++;
      return i < lanes[r][k][1] ? i : -1;
    }
    return -1;
  }
  function tell(i, event) {
    const tip = $("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    const [text, kind, details, wrong] = labels[label[i]];
    const indexed = kind === TASK && number[i] >= 0;
    tip.replaceChildren(element("b", kind === WAIT ? waitText(i) : indexed ? text + "  ·  item " + number[i] : text));
    if (kind !== MOMENT) tip.append(element("div", span(length[i]) + ", from " + moment(begin[i], Math.max(length[i] / 100, 0.001))));
    else tip.append(element("div", "at " + moment(begin[i], 1)));
    tip.append(element("div", threadName(row[i]) + "  ·  pid " + rows[row[i]][0]));
    if (wrong) tip.append(element("div", "it raised an exception", "bad"));
    for (const [name, value] of details) {
      if (kind === WAIT && name === "what" && waitText(i).endsWith(value)) continue;
      tip.append(element("div", name.replace(/_/g, " ") + (value === "true" ? "" : ": " + value)));
    }
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (event.clientY + 18 + box.height > innerHeight ? Math.max(4, event.clientY - box.height - 10) : event.clientY + 18) + "px";
  }
  let drag = null;
  rowsCanvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, top: scroll.scrollTop };
    rowsCanvas.setPointerCapture(event.pointerId);
    rowsCanvas.classList.add("dragging");
  });
  rowsCanvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const by = (drag.x - event.clientX) / scale();
      show(drag.from + by, drag.to + by);
      if (event.pointerType !== "touch") scroll.scrollTop = drag.top + drag.y - event.clientY;
      tell(-1);
      return;
    }
    const found = under(event);
    if (found !== hovered) { hovered = found; plan(); }
    tell(found, event);
  });
  for (const name of ["pointerup", "pointercancel"])
    rowsCanvas.addEventListener(name, () => { drag = null; rowsCanvas.classList.remove("dragging"); });
  rowsCanvas.addEventListener("pointerleave", () => { if (!drag && hovered >= 0) { hovered = -1; plan(); } tell(-1); });
  rowsCanvas.addEventListener("dblclick", (event) => { const i = under(event); if (i >= 0) { reveal(i); tell(-1); } });
  for (const canvas of [rowsCanvas, useCanvas])
    canvas.addEventListener("wheel", (event) => {
      const x = event.clientX - canvas.getBoundingClientRect().left;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.01), toTime(Math.max(gutter, x)));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        move(((event.deltaX || event.deltaY) / (width - gutter)));
      }
    }, { passive: false });
  scroll.addEventListener("scroll", plan);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      "+": () => zoom(0.5, middle()), "=": () => zoom(0.5, middle()), w: () => zoom(0.5, middle()),
      "-": () => zoom(2, middle()), "_": () => zoom(2, middle()), s: () => zoom(2, middle()),
      ArrowLeft: () => move(-0.25), a: () => move(-0.25), ArrowRight: () => move(0.25), d: () => move(0.25),
      "0": () => show(0, whole), Home: () => move(-1e9), End: () => move(1e9),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) { event.preventDefault(); act(); }
  });
  $("zoom-in").addEventListener("click", () => zoom(0.5, middle()));
  $("zoom-out").addEventListener("click", () => zoom(2, middle()));
  $("fit").addEventListener("click", () => show(0, whole));
  addEventListener("resize", resize);
  dark.addEventListener("change", () => { readColours(); patterns = new Map(); legend(); resize(); });

  // -- the tables

  function legend() {
    const box = $("legend");
    box.replaceChildren();
    const entry = (text, fill) => {
      const item = element("span"), mark = element("i");
      mark.style.background = fill;
      item.append(mark, document.createTextNode(text));
      box.append(item);
    };
    const striped = (hue) => `repeating-linear-gradient(135deg, ${hue} 0 2px, transparent 2px 5px)`;
    byTotal.slice(0, HUES.length).forEach((found) => entry(found.name, HUES[hueOf.get(found.name)]));
    if (byTotal.length > HUES.length) entry("… and " + (byTotal.length - HUES.length) + " more, in the same colours", "none");
    for (const text of [...waitKinds.keys()].sort()) entry(text, striped(waitHue(text)));
    if (spans && runs) entry("a thread's life", colour.shade);
  }
  function fact(name, value, kind) {
    const box = element("div", undefined, kind);
    box.append(element("dt", name), element("dd", value));
    $("facts").append(box);
  }

  function fillTables() {
    const shown = places.filter(Boolean).length;
    $("title").textContent = data.about.program || data.name;
    const parts = [];
    if (data.about.program) parts.push(data.name);
    if (data.about.began) parts.push("begun " + data.about.began.replace("T", " ").replace("Z", " UTC"));
    $("subtitle").textContent = parts.join("  ·  ");
    fact("duration", span(whole));
    fact("processes", whole_number(new Set(rows.filter((_, r) => places[r]).map((r) => r[0])).size));
    fact("threads", whole_number(shown));
    fact("tasks", whole_number(runs));
    if (failed) fact("failed", whole_number(failed), "bad");
    if (runs) fact("tasks at a time, on average", (running / whole).toFixed(2));
    if (runs) fact("of a task's time it waits", (100 * waited / Math.max(running, 1e-9)).toFixed(waited ? 1 : 0) + " %");
    fact("waits", whole_number(waits));
    if (data.about.dropped) complain("The recording was full: what came later is not in it.");
    if (data.about.unfinished) complain("The program has not ended, or was killed: this is what it had recorded until then.");
    if (data.cut) complain("The file ends in the middle: this is what could be read of it.");
    if (data.skipped) complain(whole_number(data.skipped) + " events of kinds that this page does not draw were left out.");

    const body = $("waits").tBodies[0];
    for (const i of longest) {
      const line = element("tr");
      const what = element("td", brief(detail(i, "what") || labels[label[i]][0]));
      const owner = detail(i, "owner");
      if (owner) what.append(element("div", "which " + owner + " had"));
      line.append(element("td", span(length[i]), "n"), element("td", threadName(row[i])), what,
        element("td", detail(i, "where").replace(/^.*\/(?=[^/]*$)/, ""), "code"));
      line.lastChild.title = detail(i, "where");
      line.tabIndex = 0;
      line.addEventListener("click", () => { reveal(i); $("h-timeline").scrollIntoView({ block: "nearest" }); });
      line.addEventListener("keydown", (event) => { if (event.key === "Enter") line.click(); });
      body.append(line);
    }
    if (!longest.length) body.append(nothing("Nothing was waited for."));
    const table = $("tasks").tBodies[0];
    for (const entry of byTotal.slice(0, 12)) {
      entry.lengths.sort((a, b) => a - b);
      const line = element("tr"), many = entry.lengths.length;
      line.append(element("td", entry.name), element("td", whole_number(entry.runs), "n"), element("td", whole_number(entry.failed), "n"),
        element("td", span(entry.lengths[many >> 1]), "n"), element("td", span(entry.lengths[many - 1]), "n"), element("td", span(entry.total), "n"));
      table.append(line);
    }
    if (!runs) table.append(nothing("No task ran."));
  }
  function nothing(text) {
    const line = element("tr"), cell = element("td", text);
    cell.colSpan = 6;
    line.append(cell);
    return line;
  }

  function drawHistogram() {
    const canvas = $("histogram"), w = canvas.clientWidth, h = 190;
    canvas.hidden = !runs;
    if (!runs || !w) return;
    const pen = prepare(canvas, w, h), PER = 8, left = 46, bottom = h - 36, top = 10, right = w - 12;
    const bin = (us) => Math.floor(Math.log10(Math.max(us, 1e-3)) * PER);
    let low = Infinity, high = -Infinity;
    for (const entry of byTotal) for (const us of entry.lengths) { const k = bin(us); if (k < low) low = k; if (k > high) high = k; }
    low = Math.floor(low / PER) * PER; high = (Math.floor(high / PER) + 1) * PER;
    const stacks = byTotal.map((entry) => { const bars = new Float64Array(high - low); for (const us of entry.lengths) bars[bin(us) - low]++; return bars; });
    let most = 1;
    for (let k = 0; k < high - low; k++) { let all = 0; for (const bars of stacks) all += bars[k]; most = Math.max(most, all); }
    const wide = (right - left) / (high - low), y = (n) => bottom - (n / most) * (bottom - top);
    pen.strokeStyle = colour.line; pen.fillStyle = colour.soft; pen.font = SMALL;
    pen.textAlign = "right";
    for (const n of most > 1 ? [0, Math.round(most / 2), most] : [0, 1]) {
      pen.beginPath(); pen.moveTo(left, Math.round(y(n)) + 0.5); pen.lineTo(right, Math.round(y(n)) + 0.5); pen.stroke();
      pen.fillText(whole_number(n), left - 6, y(n));
    }
    for (let k = 0; k < high - low; k++) {
      let at = 0;
      stacks.forEach((bars, s) => {
        if (!bars[k]) return;
        pen.fillStyle = HUES[s % HUES.length];
        pen.fillRect(left + k * wide + 0.5, y(at + bars[k]), Math.max(1, wide - 1), y(at) - y(at + bars[k]));
        at += bars[k];
      });
    }
    pen.textAlign = "center"; pen.fillStyle = colour.soft;
    for (let k = low; k <= high; k += PER) {
      const us = 10 ** (k / PER), [size, unit] = UNITS.find((u) => us >= u[0] * 0.99) || UNITS[3];
      const x = Math.min(right - 14, left + (k - low) * wide);
      pen.fillText(Math.round(us / size) + " " + unit, x, bottom + 13);
    }
    pen.fillText("duration of a task, logarithmic; upwards: how many", (left + right) / 2, h - 8);
    pen.textAlign = "left";
  }

  fillTables();
  legend();
  resize();
  new ResizeObserver(resize).observe(scroll);
  // For tests, and for whoever opens the console.
  window.timeline = { view, show, rows: places.filter(Boolean).length, count, toX, toTime };
  document.documentElement.dataset.ready = "yes";
})();
