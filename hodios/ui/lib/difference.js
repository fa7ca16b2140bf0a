// What sets one text apart from another, word by word.

const MOST_WORDS = 1500;

/** Parts of both in order: {kind: "same" | "added" | "removed", text}. By the longest common subsequence of words. */
export function differences(from, to) {
  const [a, b] = [wordsOf(from), wordsOf(to)];
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return [{ kind: "removed", text: from }, { kind: "added", text: to }];
  const lengths = commonLengths(a, b);
  const parts = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      put(parts, "same", a[i]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && lengths[i + 1][j] >= lengths[i][j + 1])) {
      put(parts, "removed", a[i]);
      i += 1;
    } else {
      put(parts, "added", b[j]);
      j += 1;
    }
  }
  return parts;
}

const wordsOf = (text) => text.match(/\s+|[^\s]+/g) ?? [];

/** Of what follows each pair of places: how many words they have in common, in order. */
function commonLengths(a, b) {
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}

function put(parts, kind, text) {
  const last = parts.at(-1);
  if (last?.kind === kind) last.text += text;
  else parts.push({ kind, text });
}
