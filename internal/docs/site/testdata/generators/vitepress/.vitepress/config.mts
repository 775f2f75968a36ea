import { defineConfig } from 'vitepress'

// What "vitepress init" writes, with what adds to the HTML.
export default defineConfig({
  title: 'Handbook',
  description: 'A VitePress Site',
  base: '/handbook/',
  cleanUrls: true,
  markdown: { lineNumbers: true, math: true },
  locales: {
    root: { label: 'English', lang: 'en-US' },
    ja: {
      label: '日本語',
      lang: 'ja',
      themeConfig: {
        outline: { label: 'このページの内容' },
        docFooter: { prev: '前へ', next: '次へ' }
      }
    }
  },
  themeConfig: {
    nav: [
      { text: 'Home', link: '/' },
      { text: 'Examples', link: '/markdown-examples' }
    ],
    sidebar: [
      {
        text: 'Examples',
        items: [
          { text: 'Markdown Examples', link: '/markdown-examples' },
          { text: 'Runtime API Examples', link: '/api-examples' }
        ]
      },
      {
        text: 'Guide',
        collapsed: true,
        items: [
          { text: 'Headings', link: '/headings' },
          { text: 'Content', link: '/content' },
          { text: 'Blocks', link: '/blocks' },
          { text: 'Hidden', link: '/hidden' }
        ]
      }
    ],
    editLink: { pattern: 'https://git.example.com/handbook/edit/main/:path' },
    footer: { message: 'Released under the MIT License.', copyright: 'Copyright Example' },
    socialLinks: [{ icon: 'github', link: 'https://git.example.com/handbook' }]
  }
})
