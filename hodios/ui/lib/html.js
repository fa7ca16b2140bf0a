// What views are written with: preact's elements and hooks, and templates instead of JSX, so that nothing has to be built.
import htm from "../vendor/htm.js";
import { createContext, Fragment, h, render } from "../vendor/preact.js";

export {
  useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "../vendor/preact-hooks.js";
export { createContext, Fragment, h, render };
export const html = htm.bind(h);
