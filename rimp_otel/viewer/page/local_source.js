/** Where the views' data come from: records in the page's memory. */

export class LocalSource {
  isLocal = true;
}
