interface ImportMetaEnv {
  /** Where Docent is, if not behind this site's own origin: https://docs-chat.example.com */
  readonly PUBLIC_DOCENT_URL?: string;
}

interface ImportMeta {
  readonly env: ImportMetaEnv;
}
