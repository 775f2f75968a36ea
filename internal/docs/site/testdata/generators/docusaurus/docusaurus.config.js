import starter from './starter.config.js'

// The starter's configuration, with what adds to the HTML.
export default {
  ...starter,
  title: 'Handbook',
  url: 'https://docs.example.com',
  baseUrl: '/',
  i18n: { defaultLocale: 'en', locales: ['en', 'ja'] },
  onBrokenLinks: 'warn',
  // The starter's pages are MDX; the pages of all generators are Markdown.
  markdown: { format: 'detect' },
  plugins: [
    ['@docusaurus/plugin-client-redirects', { redirects: [{ from: '/docs/old-headings', to: '/docs/headings' }] }]
  ],
  themeConfig: {
    ...starter.themeConfig,
    announcementBar: { id: 'v2', content: 'Version 2 of the handbook is out.' },
    footer: { ...starter.themeConfig.footer, copyright: 'Copyright Example' },
    navbar: {
      ...starter.themeConfig.navbar,
      items: [...starter.themeConfig.navbar.items, { type: 'docsVersionDropdown' }, { type: 'localeDropdown' }]
    }
  }
}
