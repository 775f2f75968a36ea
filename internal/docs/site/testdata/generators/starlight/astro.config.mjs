import starlight from '@astrojs/starlight'
import { defineConfig } from 'astro/config'

// What the starter has, with what adds to the HTML.
export default defineConfig({
  site: 'https://docs.example.com',
  redirects: { '/old-headings': '/guides/headings/' },
  integrations: [
    starlight({
      title: 'Handbook',
      defaultLocale: 'root',
      locales: { root: { label: 'English', lang: 'en' }, ja: { label: '日本語' } },
      social: [{ icon: 'github', label: 'GitHub', href: 'https://git.example.com/handbook' }],
      editLink: { baseUrl: 'https://git.example.com/handbook/edit/main/' },
      sidebar: [
        { label: 'Guides', items: [{ label: 'Example Guide', slug: 'guides/example' }, 'guides/headings', 'guides/content', 'guides/blocks', 'guides/hidden'] },
        { label: 'Reference', autogenerate: { directory: 'reference' } }
      ]
    })
  ]
})
