// What this browser keeps: drafts until the window closes, choices until they are changed.

function of(store) {
  return {
    get(key) {
      try {
        return JSON.parse(store().getItem(`anamnesis-${key}`));
      } catch {
        return null; // forbidden, or not ours
      }
    },
    set(key, value) {
      try {
        if (value === null || value === "") store().removeItem(`anamnesis-${key}`);
        else store().setItem(`anamnesis-${key}`, JSON.stringify(value));
      } catch {
        // Storage may be forbidden or full; then it holds for this page.
      }
    },
  };
}

export const drafts = of(() => sessionStorage);
export const choices = of(() => localStorage);
