// What `check` demands of a dashboard: Grafana's own types, made strict where they take anything.
//
// Grafana's `Panel` has `options`, `custom` and `targets` of any shape, as each kind of panel has its own. Here the kind
// (`type`) decides which keys those may have.
import type { Dashboard, FieldConfig, Panel, RowPanel } from "@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.d.ts";
import type { AnnotationQuery, VariableModel } from "@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.d.ts";
import type * as heatmap from "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.d.ts";
import type * as stateTimeline from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.d.ts";
import type * as stat from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";
import type * as table from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.d.ts";
import type * as timeseries from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";

// A type as it looks in a file: the value of an enum instead of its name.
type InFile<T> = T extends string
  ? string extends T ? string : `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : never
    : T extends (infer U)[]
      ? InFile<U>[]
      : T extends object
        ? { [K in keyof T]: InFile<T[K]> }
        : T;

// The one data source that our queries go to, so that a file works wherever it is loaded.
type OurSource = { type: "prometheus"; uid: "${datasource}" };

// Grafana's package has no type of a Prometheus query; these are the keys that its Prometheus plugin reads.
interface Target {
  refId: string;
  datasource: OurSource;
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  format?: "time_series" | "table" | "heatmap";
}

// Grafana takes any text as a unit, and shows what it does not know behind the number.
type Unit = "bytes" | "percentunit" | "reqps" | "s" | "short";

interface Override<Custom> {
  matcher: { id: "byName" | "byRegexp"; options: string };
  properties: { id: keyof FieldConfig | `custom.${keyof Custom & string}`; value: unknown }[];
}

type Transformation =
  | { id: "merge"; options: Record<string, never> }
  | {
      id: "organize";
      options: {
        excludeByName: Record<string, boolean>;
        indexByName: Record<string, number>;
        renameByName: Record<string, string>;
      };
    };

type Loose = "datasource" | "description" | "fieldConfig" | "gridPos" | "id" | "options" | "targets" | "title" | "transformations" | "type";

// Every panel has a number, a place, a title, and says what a person reads from it.
type Of<Type extends string, Options, Custom> = InFile<Omit<Panel, Loose>> & {
  type: Type;
  id: number;
  title: string;
  description: string;
  gridPos: { h: number; w: number; x: number; y: number };
  datasource: OurSource;
  targets: Target[];
  options: InFile<Options>;
  fieldConfig: {
    defaults: InFile<Omit<FieldConfig, "custom" | "unit">> & { unit?: Unit; custom?: Partial<InFile<Custom>> };
    overrides: Override<Custom>[];
  };
  transformations?: Transformation[];
};

type OurPanel =
  | Of<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Of<"stat", stat.Options, Record<never, never>>
  | Of<"state-timeline", stateTimeline.Options, stateTimeline.FieldConfig>
  | Of<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Of<"table", table.Options, table.FieldConfig>
  | (Omit<RowPanel, "panels"> & { title: string; panels: [] });

// `query` of a variable and the last keys of an annotation belong to the Prometheus plugin too.
type OurVariable = InFile<Omit<VariableModel, "datasource" | "query" | "current">> & {
  current: { selected?: boolean; text?: string[]; value?: string[] };
} & ({ type: "datasource"; query: "prometheus" } | { type: "query"; datasource: OurSource; definition: string; query: { query: string; refId: string } });

type OurAnnotation =
  | (AnnotationQuery & { builtIn: 1 })
  | (Omit<AnnotationQuery, "datasource"> & { datasource: OurSource; expr: string; titleFormat: string; textFormat: string; step: string });

// `id` is given by each Grafana; a file has none.
export type OurDashboard = InFile<Omit<Dashboard, "annotations" | "id" | "panels" | "templating" | "uid">> & {
  uid: string;
  title: string;
  panels: OurPanel[];
  templating: { list: OurVariable[] };
  annotations: { list: OurAnnotation[] };
};

