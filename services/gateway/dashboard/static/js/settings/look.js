// The appearance, as this browser keeps it.
import { getAppearance, setAppearance } from "../appearance.js";

const look = document.getElementById("look");
const mark = () => (look.querySelector(`[value="${getAppearance()}"]`).checked = true);
look.addEventListener("change", (event) => setAppearance(event.target.value));
document.body.addEventListener("appearance", mark);

mark();
