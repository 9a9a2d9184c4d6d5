// Pages for a task or a guard come before decisions and names of the inside.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename, kind]) =>
    docname.startsWith("decisions/") ? score - 20
    : kind === "object" ? score - 10
    : /^(guards|howto|tutorial)\//.test(docname) ? score + 5
    : score,
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
