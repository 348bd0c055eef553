// The crawler's configuration, shared by the editors of its page.
import { Versioned } from "./versioned.js";

export const crawler = new Versioned("/api/crawler/config");
