// How transcripts are read and summarised, shared by the editors of a page.
import { Versioned } from "./versioned.js";

export const jsonl = new Versioned("/api/jsonl/config");
