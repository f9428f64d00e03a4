// Opens page.html in Chromium from each of the given addresses and prints what became of its connection.
//
// usage: browser.mjs CHROMIUM HUB_KEY_HASH URL...

import { chromium } from "playwright-core";

const [executablePath, keyHash, ...pages] = process.argv.slice(2);

// The hub's certificate is self-made; the browser trusts exactly its key.
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", `--ignore-certificate-errors-spki-list=${keyHash}`],
});
try {
  for (const url of pages) {
    const page = await browser.newPage();
    await page.goto(url);
    console.log(JSON.stringify(await page.evaluate(() => window.outcome)));
    await page.close();
  }
} finally {
  await browser.close();
}
