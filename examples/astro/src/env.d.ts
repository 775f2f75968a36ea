interface ImportMetaEnv {
  /** Docent's address, such as https://docs-chat.example.com. Default: this site's own origin. */
  readonly PUBLIC_DOCENT_URL?: string;
}

interface ImportMeta {
  readonly env: ImportMetaEnv;
}
