"""The pages for people: the dashboard, the chat and the way in.

How a page is made. `shell.Shell` renders templates of `templates/` with a strict Content-Security-Policy; a tab is a
module `<tab>.py` with `routes(shell, ...) -> APIRouter`, a template `<tab>.html` that extends `shell.html`, parts of
it in `parts/<tab>_<part>.html`, and, where it needs one, a module `static/js/<tab>.js`. `GET /dashboard/<tab>` answers
at once with the shell and empty panels; each panel fetches its part from `GET /dashboard/parts/<tab>/<part>` (htmx), so
that one that fails shows its own error (`Shell.panel`). `callers.Callers` asks the services with the caller's own key.
`tabs.TABS` lists what the navigation shows. Chat, map and evaluation hold no data: their modules ask the API.

In templates: `url('/api/...')` for every address (it may live under a sub-path), `static('js/x.js')` for files,
`macros.html` for panels, empty states, times, bars and icons. In modules: `import {url, api} from './api.js'`, which
sends the CSRF token and turns a 401 into the login page, and `./ui.js` for dialogs and announcements; `body` gets an
event `live:<name>` for everything that `GET /api/events` tells. No inline script, no inline style, no third party's
address; what others wrote is text (`textContent` or autoescape), never markup.
"""
