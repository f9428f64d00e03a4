// Package console is the operators' web console: static ES modules embedded in the binary, written as they are served,
// with no build step.
//
// Handler serves them under /console/. The page itself is index.html for every route of the application (fleet, a
// device, commands, ...) and is revalidated on each load; everything it needs lies under /console/v/<hash>/, where hash
// is that of the whole tree, and may be kept by the browser for ever. All data comes from the operator API on the same
// origin, with a session cookie, over fetch and one WebSocket per view.
//
// The Content-Security-Policy allows scripts, styles and connections from the hub's own origin only, and no inline
// script: text that devices send reaches the page as text nodes, and could not run if it did not.
package console
