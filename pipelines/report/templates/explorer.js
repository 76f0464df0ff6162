"use strict";
// The table of queries. Whatever comes from data becomes text nodes, never markup.
{
  const STEP = 25;
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const judged = data.queries.some((query) => query.difference !== null);
  const [search, orders, found, more] = ["search", "orders", "found", "more"].map((id) =>
    document.getElementById(id),
  );
  const table = document.getElementById("explored");
  const body = table.tBodies[0];
  const headings = new Map();
  const opened = new Set();
  let sorted = { key: judged ? "difference" : "change", falling: !judged };
  let matching = [];
  let shown = STEP;

  const make = (tag, { text, ...attributes } = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    node.append(...children);
    return node;
  };
  const unseen = (text) => make("span", { class: "unseen", text });
  const decimal = (value, places) =>
    value === null ? "–" : value.toFixed(places).replace("-", "−");
  const signed = (value) => {
    if (value === null) return "–";
    const written = decimal(value, 3);
    if (!Number(value.toFixed(3))) return "0.000";
    return value > 0 ? `+${written}` : written;
  };
  const tone = (value) => (value > 0 ? "good" : value < 0 ? "bad" : "");

  const columns = [
    { key: "text", name: "Query", write: (query) => query.text },
    { key: "lines", name: "Asked", write: (query) => query.lines.toLocaleString("en") },
    { key: "change", name: "Change", kind: judged ? "wide" : "", write: (query) => decimal(query.change, 3) },
  ];
  if (judged) {
    const { measure } = data;
    columns.push(
      { key: "before", name: `${measure} before`, kind: "wide", write: (query) => decimal(query.before, 3) },
      { key: "after", name: "after", kind: "wide", write: (query) => decimal(query.after, 3) },
      { key: "difference", name: "Difference", write: (query) => signed(query.difference), tone: true },
    );
  }
  const presets = [
    ...(judged
      ? [
          { name: "Most harmed", key: "difference", falling: false },
          { name: "Most helped", key: "difference", falling: true },
        ]
      : []),
    { name: "Most changed", key: "change", falling: true },
    { name: "Most asked", key: "lines", falling: true },
  ];

  const { compare } = new Intl.Collator("en");
  const byOrder = (one, other) => {
    const [a, b] = [one[sorted.key], other[sorted.key]];
    // Queries without a value stand last either way.
    if (a === null || b === null) return (a === null) - (b === null);
    const rising = typeof a === "string" ? compare(a, b) : a - b;
    return (sorted.falling ? -rising : rising) || compare(one.id, other.id);
  };

  const documentEntry = (row, side, queryJudged) => {
    const [name, passage, firstRank, firstScore, rank, logit, grade, clicks] = row;
    const first = side === "first";
    const move = firstRank - rank;
    const moved = make("span", { class: "moved" });
    if (rank === null) moved.textContent = "not scored";
    else if (first) moved.append(unseen("reranked to "), `→ ${rank}`);
    else if (move === 0) moved.append("=", unseen(" same place"));
    else {
      moved.append(make("span", { "aria-hidden": "true", text: move > 0 ? "↑" : "↓" }));
      moved.append(unseen(move > 0 ? "up " : "down "), String(Math.abs(move)));
      moved.classList.add(tone(move));
    }
    const marks = make("span", { class: "marks" });
    if (grade > 0) marks.append(make("span", { class: "relevant", text: `relevant ${grade}` }), " ");
    else if (grade !== null) marks.append(make("span", { class: "other", text: "not relevant" }), " ");
    else if (queryJudged) marks.append(make("span", { class: "unjudged", text: "unjudged" }), " ");
    if (clicks) {
      const text = clicks > 1 ? `clicked ${clicks}×` : "clicked";
      marks.append(make("span", { class: "clicked", text }));
    }
    const score = first ? decimal(firstScore, 3) : decimal(logit, 2);
    const text = passage === null ? "The text is not kept." : data.passages[passage];
    const excerpt = make("p", { class: "passage", dir: "auto", text });
    const title = make("button", { type: "button", class: "document", "aria-expanded": "false", text: name });
    title.addEventListener("click", () => {
      const whole = excerpt.classList.toggle("whole");
      title.setAttribute("aria-expanded", String(whole));
    });
    return make(
      "li",
      { value: String(first ? firstRank : rank) },
      make("span", { class: "rank", text: String(first ? firstRank : rank) }),
      make("span", { class: "head" }, title, marks),
      make("span", { class: "score" }, unseen(first ? "score " : "logit "), score),
      moved,
      excerpt,
    );
  };

  const listing = (title, side, rows, queryJudged) =>
    make(
      "div",
      { class: "order" },
      make(
        "div",
        { class: "columns" },
        make("h3", { text: title }),
        make("span", { "aria-hidden": "true", text: side === "first" ? "score" : "logit" }),
        make("span", { "aria-hidden": "true", text: side === "first" ? "now at" : "moved" }),
      ),
      make("ol", {}, ...rows.map((row) => documentEntry(row, side, queryJudged))),
    );

  // Both lists show the same documents: the one pointed at is marked in either.
  const pair = (panel) => {
    const entries = [...panel.querySelectorAll("li")];
    const name = (entry) => entry.querySelector(".document").textContent;
    const mark = ({ target }) => {
      const over = target.closest("li");
      for (const entry of entries) entry.classList.toggle("same", Boolean(over) && name(entry) === name(over));
    };
    panel.addEventListener("mouseover", mark);
    panel.addEventListener("focusin", mark);
    panel.addEventListener("mouseleave", mark);
  };

  const detail = (query, id) => {
    const { depth, measure } = data;
    const queryJudged = query.rows.some((row) => row[6] !== null);
    const first = query.rows.filter((row) => row[2] <= depth).sort((a, b) => a[2] - b[2]);
    const second = query.rows
      .filter((row) => row[4] !== null && row[4] <= depth)
      .sort((a, b) => a[4] - b[4]);
    const about = [`Query ${query.id}`, `asked ${query.lines.toLocaleString("en")}×`, `change ${decimal(query.change, 3)}`];
    if (query.difference !== null) {
      about.push(`${measure} ${decimal(query.before, 3)} → ${decimal(query.after, 3)}`);
    }
    const panel = make(
      "div",
      { class: "orders" },
      listing("First stage", "first", first, queryJudged),
      listing("Reranked", "second", second, queryJudged),
    );
    pair(panel);
    const cell = make("td", { colspan: String(columns.length) }, make("p", { class: "about", text: about.join(" · ") }), panel);
    return make("tr", { class: "detail", id }, cell);
  };

  const toggle = (query, row, open) => {
    const button = row.querySelector("button");
    const id = button.getAttribute("aria-controls");
    document.getElementById(id)?.remove();
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      opened.add(query);
      row.after(detail(query, id));
    } else opened.delete(query);
  };

  const queryRow = (query) => {
    const row = make("tr");
    const id = `query-${data.queries.indexOf(query)}`;
    for (const { key, kind, write, tone: toned } of columns) {
      const text = write(query);
      if (key === "text") {
        const button = make("button", { type: "button", dir: "auto", "aria-expanded": "false", "aria-controls": id, text });
        button.addEventListener("click", () => {
          toggle(query, row, !opened.has(query));
          history.replaceState(null, "", `#query=${encodeURIComponent(query.id)}`);
        });
        row.append(make("th", { scope: "row" }, button));
      } else {
        const cell = make("td", { text });
        if (kind) cell.classList.add(kind);
        if (toned && tone(query[key])) cell.classList.add(tone(query[key]));
        row.append(cell);
      }
    }
    return row;
  };

  const render = () => {
    const words = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    matching = data.queries
      .filter(({ text, id }) => {
        const within = `${text} ${id}`.toLocaleLowerCase();
        return words.every((word) => within.includes(word));
      })
      .sort(byOrder);
    const visible = matching.slice(0, shown);
    body.replaceChildren();
    for (const query of visible) {
      const row = queryRow(query);
      body.append(row);
      if (opened.has(query)) toggle(query, row, true);
    }
    found.textContent = matching.length
      ? `Showing ${visible.length} of ${matching.length}${words.length ? " that match" : ""}`
      : "No query matches.";
    more.hidden = visible.length === matching.length;
    more.textContent = `Show ${Math.min(STEP, matching.length - visible.length)} more`;
    for (const [key, heading] of headings) {
      if (key === sorted.key) heading.setAttribute("aria-sort", sorted.falling ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    for (const [place, preset] of presets.entries()) {
      const pressed = preset.key === sorted.key && preset.falling === sorted.falling;
      orders.children[place].setAttribute("aria-pressed", String(pressed));
    }
  };

  const sort = (key, falling) => {
    sorted = { key, falling };
    shown = STEP;
    render();
  };

  const openNamed = () => {
    if (!location.hash.startsWith("#query=")) return;
    const id = decodeURIComponent(location.hash.slice("#query=".length));
    const query = data.queries.find((one) => one.id === id);
    if (!query) return;
    search.value = "";
    opened.clear();
    opened.add(query);
    render();
    shown = Math.max(shown, matching.indexOf(query) + 1);
    render();
    const button = body.querySelector("button[aria-expanded=true]");
    button.focus({ preventScroll: true });
    button.closest("tr").scrollIntoView({ block: "start" });
  };

  for (const { key, name, kind } of columns) {
    const button = make("button", { type: "button", text: name });
    button.addEventListener("click", () =>
      sort(key, key === sorted.key ? !sorted.falling : key !== "text"),
    );
    const heading = make("th", { scope: "col" }, button);
    if (kind) heading.classList.add(kind);
    headings.set(key, heading);
    table.tHead.rows[0].append(heading);
  }
  for (const { name, key, falling } of presets) {
    const button = make("button", { type: "button", "aria-pressed": "false", text: name });
    button.addEventListener("click", () => sort(key, falling));
    orders.append(button);
  }
  search.addEventListener("input", () => {
    shown = STEP;
    render();
  });
  more.addEventListener("click", () => {
    const next = body.querySelectorAll("th button").length;
    shown += STEP;
    render();
    body.querySelectorAll("th button")[next].focus();
  });
  // The arrows go from query to query; Escape closes the one whose candidates are looked at.
  body.addEventListener("keydown", (event) => {
    const panel = event.target.closest(".detail");
    if (event.key === "Escape" && panel) {
      const button = body.querySelector(`[aria-controls="${panel.id}"]`);
      button.click();
      button.focus();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || panel) return;
    const buttons = [...body.querySelectorAll("th button")];
    buttons[buttons.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  });
  window.addEventListener("hashchange", openNamed);

  document.getElementById("unscripted").remove();
  document.getElementById("explorer").hidden = false;
  render();
  openNamed();
}
