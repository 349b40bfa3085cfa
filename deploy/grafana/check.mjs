// check.mjs DASHBOARD RULES: checks what types cannot say, and writes the queries as a rules file for promtool.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

const [file, rulesFile] = process.argv.slice(2);
const complaints = [];
const complain = (text) => complaints.push(`${file}: ${text}`);

let dashboard;
try {
  dashboard = JSON.parse(readFileSync(file, "utf8"));
} catch (error) {
  console.error(`${file}: ${error.message}`);
  process.exit(1);
}

// What Grafana puts into a query, as it would for "all portals" and an hour.
const values = { portal: ".*", __rate_interval: "1m", __interval: "1m", __range: "1h" };
const own = new Set(dashboard.templating?.list?.map((variable) => variable.name));
const filledIn = (expr, where) =>
  expr.replace(/\$\{?(\w+)\}?/g, (written, name) => {
    // `$1` belongs to label_replace.
    if (/^\d+$/.test(name)) return written;
    if (!(name in values)) complain(`${where}: ${written} is not known`);
    else if (!name.startsWith("__") && !own.has(name)) complain(`${where}: no variable ${name} is defined`);
    return values[name] ?? written;
  });

const name = basename(file, ".json");
if (dashboard.uid !== `rota-${name}`) complain(`uid must be rota-${name}, as links and bookmarks hold on to it`);

const rules = [];
const add = (expr, where) => rules.push({ record: `panel:${rules.length}`, expr: filledIn(expr, where) });
const ids = new Set();
const taken = new Map();
for (const panel of dashboard.panels ?? []) {
  const where = `panel ${panel.id} "${panel.title}"`;
  if (ids.has(panel.id)) complain(`${where}: the id is given twice`);
  ids.add(panel.id);

  const { x, y, w, h } = panel.gridPos ?? {};
  if (!(x >= 0 && w > 0 && h > 0 && x + w <= 24)) complain(`${where}: does not fit into the 24 columns`);
  for (let column = x; column < x + w; column += 1) {
    for (let line = y; line < y + h; line += 1) {
      const other = taken.get(`${column},${line}`);
      if (other !== undefined && other !== where) complain(`${where}: overlaps ${other}`);
      taken.set(`${column},${line}`, where);
    }
  }

  const refs = new Set();
  for (const target of panel.targets ?? []) {
    if (refs.has(target.refId)) complain(`${where}: refId ${target.refId} is given twice`);
    refs.add(target.refId);
    if (target.instant === target.range) complain(`${where}: a query is either instant or range`);
    add(target.expr, where);
  }
  if (panel.type !== "row" && refs.size === 0) complain(`${where}: no query`);
}
for (const annotation of dashboard.annotations?.list ?? []) {
  if (annotation.expr) add(annotation.expr, `annotation ${annotation.name}`);
}
if (rules.length === 0) complain("no query at all");

writeFileSync(rulesFile, JSON.stringify({ groups: [{ name, rules }] }, null, 1));
for (const complaint of new Set(complaints)) console.error(complaint);
process.exit(complaints.length === 0 ? 0 : 1);
