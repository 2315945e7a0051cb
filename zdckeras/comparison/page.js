"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const models = data.rows.slice(1);
const state = { tab: "all", hidden: new Set(), log: true };
const $ = id => document.getElementById(id);

// elements; whatever comes from the data is set as text or as an attribute, never as markup
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "circle", "line", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "fill-with") node.style.background = value;
    else node.setAttribute(name, value);
  }
  for (const child of children) node.append(child);
  return node;
}
const shown = () => models.filter(name => !state.hidden.has(name));
const marks = (from, to) => {  // round numbers between two, about five
  const power = 10 ** Math.floor(Math.log10((to - from) / 4)), step = [1, 2, 5, 10].find(k => (to - from) / (k * power) <= 6) * power;
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.max(0, Math.floor(to / step) - first + 1) }, (_, k) => Number(((first + k) * step).toPrecision(12)));
};
const short = value => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e4 || size < 1e-2 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
};

// tables: the best number of a column in bold, models on the front shaded
const ideals = { ...data.ideals, "weights": null, "kind": null, "recipe [CPU s]": null, "rows seen in training": null };
function table(id, lines, marked) {
  const [head, ...body] = lines;
  const isModel = line => !["floor", "other library", "Geant4"].includes(line[0]);
  const best = head.map((heading, k) => {
    if (!marked || !k || ideals[heading] === null) return NaN;
    return Math.min(...body.filter(isModel).map(line => Math.abs(parseFloat(line[k].replaceAll(",", "")) - (ideals[heading] || 0)))
      .filter(Number.isFinite));
  });
  const cell = (line, heading, k) => {
    const away = Math.abs(parseFloat(line[k].replaceAll(",", "")) - (ideals[heading] || 0));
    const [mean, deviation] = line[k].split(" ± ");
    return make("td", isModel(line) && away === best[k] ? { class: "best" } : {}, mean, ...(deviation ? [make("small", {}, `± ${deviation}`)] : []));
  };
  $(id).replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map(word => make("th", { scope: "col" }, word)))),
    make("tbody", {}, ...body.map(line => make("tr", line[0].endsWith(" *") ? { class: "front" } : {},
      make("th", { scope: "row", title: line[0] }, line[0]), ...head.slice(1).map((h, k) => cell(line, h, k + 1))))));
}

// responses
function colour(value, top) {
  if (!(value > 0)) return "#ffffff";
  const part = state.log ? Math.log(Math.max(value, 1)) / Math.log(Math.max(top, 2)) : value / top;
  return data.palette[Math.min(data.palette.length - 1, Math.floor(part * data.palette.length))];
}
function dense(pairs) {
  const image = new Float64Array(data.shape[0] * data.shape[1]);
  for (let k = 0; k < pairs.length; k += 2) image[pairs[k]] = pairs[k + 1];
  return image;
}
function picture(image, top, scale) {
  const [nx, ny] = data.shape;
  const canvas = make("canvas", { width: nx * scale, height: ny * scale });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, nx * scale, ny * scale);
  image.forEach((value, k) => {
    if (!(value > 0)) return;
    pen.fillStyle = colour(value, top);
    pen.fillRect(Math.floor(k / ny) * scale, (ny - 1 - k % ny) * scale, scale, scale);  // y upwards
  });
  return canvas;
}
const sum = image => image.reduce((total, value) => total + value, 0);
const most = column => Math.max(...["real", ...models].flatMap(name => data.gallery.images[name][column].filter((_, k) => k % 2)), 2);

function gallery() {
  const every = data.gallery.titles.map((_, k) => k);
  const some = every.filter(k => state.tab === "all" || data.gallery.tabs[k] === state.tab);
  const columns = some.length ? some : every;
  const rows = ["real", ...shown()].map(name => make("tr", {}, make("th", { scope: "row", title: name }, name),
    ...columns.map(k => {
      const image = dense(data.gallery.images[name][k]), canvas = picture(image, most(k), 1);
      canvas.addEventListener("click", () => zoom(k));
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${name}: ${data.gallery.titles[k]}`);
      return make("td", {}, canvas, `${Math.round(sum(image))}`);
    })));
  $("gallery").replaceChildren(make("tr", {}, make("th", {}, ""), ...columns.map(k => make("th", {}, data.gallery.titles[k]))), ...rows);
}
function zoom(column) {
  $("zoom-title").textContent = data.gallery.titles[column];
  $("zoomed").replaceChildren(...["real", ...shown()].map(name => {
    const image = dense(data.gallery.images[name][column]), canvas = picture(image, most(column), 8);
    const caption = `${name}: ${Math.round(sum(image))} ${data.unit}`;
    const below = make("figcaption", {}, caption);
    canvas.addEventListener("pointermove", event => {
      const box = canvas.getBoundingClientRect(), [nx, ny] = data.shape;
      const x = Math.min(nx - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * nx)));
      const y = Math.min(ny - 1, Math.max(0, Math.floor((box.bottom - event.clientY) / box.height * ny)));
      below.textContent = `${name}: cell (${x}, ${y}) has ${image[x * ny + y]} ${data.unit}`;
    });
    canvas.addEventListener("pointerleave", () => { below.textContent = caption; });
    return make("figure", {}, canvas, below);
  }));
  if (!$("zoom").open) $("zoom").showModal();
}

// histograms with ratio panels
function steps(edges, heights, x, y, closed) {
  const base = y(0) ?? 0;
  let path = closed ? `M${x(edges[0])},${base}` : "";
  heights.forEach((height, k) => {
    const at = y(height).toFixed(1);
    path += `${path ? "L" : "M"}${x(edges[k]).toFixed(1)},${at}L${x(edges[k + 1]).toFixed(1)},${at}`;
  });
  return closed ? `${path}L${x(edges.at(-1))},${base}Z` : path;
}
function histogram(one) {
  const [left, right, top, middle, bottom] = [34, 294, 8, 140, 188];
  const edges = one.edges, real = one.counts.real, total = real.reduce((a, b) => a + b, 0);
  const scaled = Object.fromEntries(shown().map(name => {
    const counts = one.counts[name], weight = total / Math.max(1, counts.reduce((a, b) => a + b, 0));
    return [name, counts.map(count => count * weight)];
  }));
  const high = Math.max(1, ...real, ...Object.values(scaled).flat());
  const steep = high > 12 * (real.filter(Boolean).sort((a, b) => a - b)[Math.floor(real.length / 2)] || 1);
  const x = value => left + (value - edges[0]) / (edges.at(-1) - edges[0]) * (right - left);
  const y = steep ? v => middle - 4 - Math.max(0, Math.log(Math.max(v, 0.5) / 0.5)) / Math.log(high * 1.6 / 0.5) * (middle - 4 - top)
    : v => middle - 4 - v / (high * 1.08) * (middle - 4 - top);
  const ratio = value => bottom - (Math.min(1.5, Math.max(0.5, value)) - 0.5) * (bottom - middle - 4);
  const figure = make("svg", { viewBox: "0 0 300 204", role: "img", "aria-label": one.title });
  figure.append(make("path", { d: steps(edges, real, x, y, true), fill: "#d9dde3" }));
  const known = real.map(count => count > 0);
  real.forEach((count, k) => {
    if (!count) return;
    const error = Math.min(0.5, 1 / Math.sqrt(count)), width = x(edges[k + 1]) - x(edges[k]);
    figure.append(make("rect", { x: x(edges[k]), width, y: ratio(1 + error), height: ratio(1 - error) - ratio(1 + error), fill: "#e4e7ec" }));
  });
  figure.append(make("line", { x1: left, x2: right, y1: ratio(1), y2: ratio(1), stroke: "#8a93a0", "stroke-width": 0.7 }));
  for (const [name, heights] of Object.entries(scaled)) {
    const line = { fill: "none", stroke: data.colours[name], "stroke-width": 1.4 };
    figure.append(make("path", { d: steps(edges, heights, x, y, false), ...line }, make("title", {}, name)));
    heights.forEach((height, k) => {
      const value = height / real[k], middleX = (x(edges[k]) + x(edges[k + 1])) / 2, error = Math.sqrt(height) / real[k];
      if (!known[k] && !height) return;
      if (!known[k] || value < 0.5 || value > 1.5) {  // beyond the panel: a triangle at its edge
        const edge = ratio(known[k] && value < 0.5 ? 0.5 : 1.5), tip = known[k] && value < 0.5 ? 3 : -3;
        figure.append(make("path", { d: `M${middleX - 2},${edge - tip}h4l-2,${tip}Z`, fill: data.colours[name] }));
        return;
      }
      figure.append(make("line", { x1: middleX, x2: middleX, y1: ratio(value - error), y2: ratio(value + error), ...line, "stroke-width": 0.8 }),
        make("circle", { cx: middleX, cy: ratio(value), r: 1.5, fill: data.colours[name] }));
    });
  }
  for (const [low, far] of [[top, middle - 4], [middle + 4, bottom]])
    figure.append(make("rect", { x: left, y: low, width: right - left, height: far - low, fill: "none", stroke: "#8a93a0", "stroke-width": 0.7 }));
  for (const part of [0, 0.5, 1]) {
    const value = edges[0] + part * (edges.at(-1) - edges[0]);
    figure.append(make("text", { x: x(value), y: bottom + 13, "text-anchor": ["start", "middle", "end"][2 * part] }, short(value)));
  }
  const ticks = steep ? [1, 10, 100, 1000, 10000, 100000].filter(v => v < high * 1.6) : [0, high / 2, high].map(v => Number(v.toPrecision(2)));
  for (const value of ticks) figure.append(make("text", { x: left - 4, y: y(value) + 3, "text-anchor": "end" }, short(value)));
  for (const value of [0.5, 1, 1.5]) figure.append(make("text", { x: left - 4, y: ratio(value) + 3, "text-anchor": "end" }, String(value)));
  return make("figure", {}, figure, make("figcaption", {}, one.title));
}
function histograms() {
  const every = data.histograms[state.tab], channels = every.filter(one => one.title.startsWith("channel "));
  $("channels").replaceChildren(...channels.map(histogram));
  $("shapes").replaceChildren(...every.filter(one => !channels.includes(one)).map(histogram));
}

// corner plot: real below the diagonal, a model above
function corner() {
  const names = data.corner.names, tab = data.corner.tabs[state.tab], K = names.length, chosen = $("corner-model").value;
  const side = 90, gap = 6, left = 92, top = 6, bins = Math.round(Math.sqrt(tab.rows.real.pairs[0].length));
  const full = left + K * (side + gap);
  const figure = make("svg", { viewBox: `0 0 ${full} ${top + K * (side + gap) + 30}`, role: "img", "aria-label": "correlations" });
  const pair = (row, i, j) => tab.rows[row].pairs[Math.max(i, j) * (Math.max(i, j) + 1) / 2 + Math.min(i, j)];
  for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) {
    const x0 = left + j * (side + gap), y0 = top + i * (side + gap), row = i >= j ? "real" : chosen;
    const cell = make("g"), counts = pair(row, i, j);
    if (i === j) {
      for (const [name, colour, fill] of [["real", "#8a93a0", "#d9dde3"], [chosen, data.colours[chosen], "none"]]) {
        const line = Array.from({ length: bins }, (_, k) => pair(name, i, i)[k * bins + k]), high = Math.max(...line, 1);
        const edges = Array.from({ length: bins + 1 }, (_, k) => k);
        cell.append(make("path", { d: steps(edges, line, k => x0 + k / bins * side, v => y0 + side - 0.92 * v / high * side, true), fill, stroke: colour }));
      }
    } else {
      const high = Math.max(...counts, 1);
      for (let a = 0; a < bins; a++) for (let b = 0; b < bins; b++) {
        const count = i > j ? counts[a * bins + b] : counts[b * bins + a];  // a along y, b along x
        if (!count) continue;
        const shade = data.palette[Math.min(63, Math.floor(63 * Math.log1p(count) / Math.log1p(high)))];
        cell.append(make("rect", { x: x0 + b / bins * side, y: y0 + side - (a + 1) / bins * side, width: side / bins + 0.3, height: side / bins + 0.3, fill: shade }));
      }
      const value = tab.rows[row].correlation[i][j];
      cell.append(make("text", { x: x0 + side - 3, y: y0 + 12, "text-anchor": "end", stroke: "#fff", "stroke-width": 3, "paint-order": "stroke", "font-weight": 700 }, value === null ? "-" : value.toFixed(2)));
    }
    cell.append(make("rect", { x: x0, y: y0, width: side, height: side, fill: "none", stroke: "#8a93a0", "stroke-width": 0.7 }));
    figure.append(cell);
  }
  names.forEach((name, k) => {
    const word = name.replace(/ \[.*| of gravity| asymmetry|share of the 5 brightest cells/g, m => m.startsWith("share") ? "core share" : "");
    figure.append(make("text", { x: left - 6, y: top + k * (side + gap) + side / 2, "text-anchor": "end" }, word));
    figure.append(make("text", { x: left + k * (side + gap) + side / 2, y: top + K * (side + gap) + 10, "text-anchor": "middle" }, word));
    figure.append(make("text", { x: left + k * (side + gap) + side / 2, y: top + K * (side + gap) + 22, "text-anchor": "middle" }, tab.limits[k].map(short).join(" to ")));
  });
  $("corner").replaceChildren(figure);
}

// quality against time
function trade() {
  const metric = $("y-metric").value, batch = $("x-batch").value, ideal = ideals[metric] || 0;
  const timed = data.points.map(p => ({ ...p, x: p.ms[batch] ?? p.ms["1"], y: p.values[metric] })).filter(p => p.x > 0);
  const points = timed.filter(p => p.y !== null && p.y !== undefined), others = timed.filter(p => !points.includes(p));
  if (!points.length) { $("trade").replaceChildren(make("p", {}, "No times were measured.")); return; }
  const wide = window.innerWidth > 600, [left, right, top, bottom] = [56, wide ? 836 : 400, 14, wide ? 380 : 330];
  const xs = [...points, ...others].map(p => Math.log10(p.x)), low = Math.floor(Math.min(...xs) - 0.2), far = Math.ceil(Math.max(...xs) + 0.2);
  const steep = points.every(p => p.y > 0) && Math.max(...points.map(p => p.y)) > 20 * Math.min(...points.map(p => p.y));
  const of = steep ? Math.log10 : value => value;  // or what is near the floor would be one point
  const own = points.map(p => of(p.y)), reach = (Math.max(...own) - Math.min(...own)) || Math.abs(own[0]) || 1;
  const near = of(ideal) > Math.min(...own) - reach && of(ideal) < Math.max(...own) + reach;  // or it would squeeze all else
  const ys = near ? [...own, of(ideal)] : own, span = (Math.max(...ys) - Math.min(...ys)) || 1;
  const from = Math.min(...ys) - 0.08 * span, to = Math.max(...ys) + 0.1 * span;
  const x = value => left + (Math.log10(value) - low) / (far - low) * (right - left);
  const y = value => bottom - (of(value) - from) / (to - from) * (bottom - top);
  const decades = Array.from({ length: Math.ceil(to - from) + 2 }, (_, k) => 10 ** (Math.floor(from) + k));
  const heights = steep ? decades.flatMap(v => [v, 2 * v, 5 * v]).filter(v => of(v) > from && of(v) < to) : marks(from, to);
  const figure = make("svg", { viewBox: `0 0 ${right + 40} ${bottom + 50}`, role: "img", "aria-label": `${metric} against time` });
  for (let power = low; power <= far; power++) figure.append(
    make("line", { x1: x(10 ** power), x2: x(10 ** power), y1: top, y2: bottom, stroke: "#e4e7ec" }),
    make("text", { x: x(10 ** power), y: bottom + 18, "text-anchor": "middle" }, short(10 ** power)));
  for (const value of heights) figure.append(
    make("line", { x1: left, x2: right, y1: y(value), y2: y(value), stroke: "#e4e7ec" }),
    make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  if (near) figure.append(make("line", { x1: left, x2: right, y1: y(ideal), y2: y(ideal), stroke: "#8a93a0", "stroke-dasharray": "5 4" }));
  figure.append(make("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: "none", stroke: "#8a93a0" }),
    make("text", { x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, `ms a shower, batch ${batch}`),
    make("text", { x: left + 8, y: top + 16 }, `${metric}${ideal ? `, ${short(ideal)} is ideal` : ""}`));
  for (const p of others) figure.append(  // what has a time and no quality: one line, its name along it
    make("line", { x1: x(p.x), x2: x(p.x), y1: top, y2: bottom, stroke: "#5c6675", "stroke-dasharray": "2 3" }),
    make("text", { x: x(p.x) - 6, y: bottom - 8, "text-anchor": "end" }, p.name));
  const away = p => Math.abs(p.y - ideal), judged = points.filter(p => p.name !== "floor");  // also those of an earlier report
  const front = judged.filter(p => !judged.some(q => away(q) <= away(p) && q.x <= p.x && (away(q) < away(p) || q.x < p.x))).sort((a, b) => a.x - b.x);
  figure.append(make("path", { d: front.map((p, k) => `${k ? "L" : "M"}${x(p.x)},${y(p.y)}`).join(""), fill: "none", stroke: "#8a93a0", "stroke-width": 1.2 }));
  const placed = points.map(p => ({ start: x(p.x) - 6, size: 12, y: y(p.y) + 4 }));  // no name lies on a point
  const rank = p => front.includes(p) ? 0 : data.colours[p.name] ? 1 : 2;  // who has a place for its name first
  for (const p of [...points].sort((a, b) => rank(a) - rank(b) || y(a.y) - y(b.y))) {
    const name = p.name.length > 26 ? `…${p.name.slice(-25)}` : p.name, size = 7.5 * name.length + 12;
    const end = x(p.x) + size > right, start = end ? x(p.x) - size - 8 : x(p.x) + 8;
    const free = at => at.y > top + 12 && at.y < bottom - 3 && !placed.some(q => at.start < q.start + q.size && q.start < at.start + size && Math.abs(q.y - at.y) < 15);
    const tries = [0, -16, 16, -32, 32].map(down => ({ start, size, y: y(p.y) + 4 + down }));
    const circle = make("circle", { cx: x(p.x), cy: y(p.y), r: front.includes(p) ? 7 : 5, fill: data.colours[p.name] || "#5c6675" });
    circle.append(make("title", {}, `${p.name}: ${metric} ${short(p.y)}, ${short(p.x)} ms`));
    figure.append(circle);
    const at = tries.find(free);
    if (!at) continue;  // among too many: its name is told where it is pointed at
    placed.push(at);
    figure.append(make("text", { x: x(p.x) + (end ? -9 : 9), y: at.y, "text-anchor": end ? "end" : "start", style: `fill: ${data.colours[p.name] || "#5c6675"}` }, name));
  }
  $("trade").replaceChildren(figure);
}

// controls
function draw() { gallery(); histograms(); corner(); }
function choose(tab) { state.tab = tab; controls(); draw(); $("tabs").querySelector("[aria-selected=true]").focus({ preventScroll: true }); }
function controls() {
  const tabs = Object.keys(data.tabs), move = { ArrowRight: 1, ArrowLeft: tabs.length - 1 };
  $("tabs").replaceChildren(...Object.entries(data.tabs).map(([tab, count]) => make("button", {
    role: "tab", "aria-selected": String(tab === state.tab), onclick: () => choose(tab),
    onkeydown: event => { if (event.key in move) choose(tabs[(tabs.indexOf(tab) + move[event.key]) % tabs.length]); },
  }, `${tab} (${count})`)));
  const all = (word, hidden) => make("button", { onclick: () => { state.hidden = new Set(hidden); controls(); draw(); } }, word);
  $("legend").replaceChildren(all("all", []), all("none", models), ...models.map(name => make("button", {
    "aria-pressed": String(!state.hidden.has(name)), title: name,
    onclick: () => { if (!state.hidden.delete(name)) state.hidden.add(name); controls(); draw(); },
  }, make("i", { "fill-with": data.colours[name] }), name)));
}
function options(id, names) { $(id).replaceChildren(...names.map(name => make("option", { value: name }, name))); }

$("about").textContent = `${data["made with"].judged} showers of ${data.detector} (${data.shape.join(" x ")} cells, ${data.unit}), ${data.runs} generations of each row; sorted by ${data.sort}.`;
$("failures").textContent = Object.entries(data.failures).map(([name, why]) => `${name} could not be judged: ${why}`).join("\n");
$("host").textContent = data.host ? `Milliseconds a shower: processor time of one thread, with an accelerator time on the clock; ${data.host}; every model alone in a process. Memory: the largest of that process, its framework included. Recipe: processor time until the model was saved, since the recipe's last start.` : "Times were not measured.";
$("notes").textContent = data.notes.join(" ");
table("t-quality", data.tables.quality, true);
table("t-cost", data.tables.cost, true);
const bySpecies = () => table("t-species", data.tables.species[$("species-metric").value], false);
options("species-metric", Object.keys(data.tables.species));
$("species-metric").addEventListener("change", bySpecies);
bySpecies();
table("t-shapes", data.tables.shapes, false);
options("y-metric", Object.keys(data.points[0]?.values ?? {}).filter(name => data.points.some(p => p.values[name] !== null)));
if ([...$("y-metric").options].some(option => option.value === data.sort)) $("y-metric").value = data.sort;
options("corner-model", models);
$("corner-model").value = models.find(name => name !== "floor") ?? models[0];
window.addEventListener("resize", trade);
$("y-metric").addEventListener("change", trade);
$("x-batch").addEventListener("change", trade);
$("corner-model").addEventListener("change", corner);
$("log").addEventListener("change", () => { state.log = $("log").checked; gallery(); });
$("zoom").addEventListener("click", event => { if (event.target === $("zoom")) $("zoom").close(); });
$("provenance").replaceChildren(...Object.entries({ "this comparison": data["made with"], ...data.provenance }).map(([name, made]) =>
  make("details", {}, make("summary", {}, name), make("pre", {}, Object.entries(made).map(([key, value]) =>
    `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join("\n") || "its file does not say"))));
controls();
trade();
draw();
