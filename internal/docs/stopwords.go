package docs

import "strings"

// stopLists are the words that a question is put with rather than about, by
// language code. Words that name things in docs, such as up, off, not, no, all and
// same, are not among them: BM25 gives them the weight that they have on a site.
var stopLists = map[string]string{
	"en": `a about am an and any are as at be because been being but by can can't could couldn't did didn't do does doesn't
		doing don't else ever every for from get gets getting got had has have having he her here him his how how's i i'd i'll
		i'm i've if in into is isn't it it's its just let let's may me might my of on or our ours please shall she should so
		some such tell than that that's the their them then there there's these they this those to too us very want was way
		we we'd we'll we're we've were what what's when where where's which while who whom whose why will with won't would
		you you'd you'll you're you've your yours`,
	"da": `af at da de den der det dig du eller en er et for fra få har have hun hvad hvis hvor hvordan hvorfor i ikke jeg kan
		kunne man med men mig min mit når og også om på sig skal som så til ud ved vi vil være`,
	"de": `aber als am an auch auf aus bei bin bis bitte da dann das dass dem den denn der des dessen die dies diese diesem diesen
		dieser dieses doch du durch ein eine einem einen einer eines er es etwas für gibt habe haben hat hier ich ihr ihre im in
		ist ja jede jeden jeder kann kannst könnte können man mein meine meinem meinen meiner mich mir mit muss müssen nach
		noch nun nur ob oder sein seine sich sie sind so soll sollte über um und uns unser unsere von vor wann warum was
		welche welchem welchen welcher welches wenn wer werden wie wieso wir wird wo wozu wurde zu zum zur`,
	"es": `a al algo como cómo con cual cuál cuales cuando cuándo de del desde donde dónde el él ella ellos en entre era es esa ese
		eso esta está este esto están fue ha hace hacer hacia hay he la las le les lo los me mi mis muy no nos o para pero
		por porque puede puedo que qué quien se ser si sí sin sobre son su sus también te tengo tiene un una uno y ya yo`,
	"fi": `että ei he hän ja joka jos kanssa kuin kuinka kun me miksi mikä millainen minä missä miten mitä mutta ne niin no nyt
		ole olen on ovat saa se sekä sen siitä sinä tai te tämä voi voin voiko`,
	"fr": `à ai alors au aussi aux avec avoir c ce ceci cela ces cet cette comme comment d dans de des dois doit donc du elle en
		est est-ce et être eu faire fait faut il ils j je l la le les leur leurs lui m ma mais me mes moi mon n nos notre nous on
		ont ou où par pas peut peux pour pourquoi qu quand que quel quelle quelles quels qui quoi s sa sans se ses si son sont
		sur t ta te tes toi ton tu un une vos votre vous y`,
	"hu": `a az és egy ez azt ezt hogy hogyan ha is de nem mi mit miért hol mikor van vagy csak már meg még lehet kell én`,
	"it": `a ad ai al alla alle allo anche c che chi ci come con cosa d da dal dalla dei del della delle dello di dove e è ed fa
		fare gli ha ho i il in io l la le lo ma mi mia mio nel nella non o per perché più può posso quale quali quando quanto
		quello questa questo se si sono su sul sulla tra un una uno`,
	"nl": `aan al als bij daar dan dat de deze die dit doe door dus een en er geen had heb heeft het hier hij hoe ik in is ja je
		kan kun kunnen maar me men met mij mijn moet na naar niet nog nu of om onder ons ook op over te tot uit van voor waar
		waarom wanneer was wat we wel welke werd wie wij wil worden zal ze zich zij zijn zo zou`,
	"no": `at av da de den der det du eller en er et for fra får har hun hva hvis hvor hvordan hvorfor i ikke jeg kan kunne man med
		men meg min mitt når og også om på seg skal som så til ut ved vi vil være`,
	"pt": `a ao aos as às com como da das de dela dele do dos e é ela ele em entre era essa esse esta está este eu foi há isso isto
		já lhe mais mas me meu minha muito na nas não no nos nós o onde os ou para pela pelo por porque posso pode qual quais
		quando que quem se sem ser seu sua são também te tem tenho um uma você`,
	"ro": `a ai al ale am ar are as ce că cu cum de din după e este eu fi în la mai mea meu nu o pe pentru prin sau se și sunt
		un unde unei unui`,
	"ru": `а без бы был была были было быть в вам вас весь во вот все вы где да для до его ее её если есть еще ещё же за и из или
		им их к как какая какие какой ко когда кто ли мне можно мой мы на надо нас не него нее нет ни но ну о об он она они от
		по под почему при про с сделать со так также такой там то только у уже чего чем что чтобы это этого этой этом этот я`,
	"sv": `att av de den det detta dig din du där då ej eller en er ett finns från för får gör ha han har hon hur i icke in inte
		jag kan man med men mig min mitt måste nu när och om oss på sig ska skall som så till ut vad var varför vi vid vill vilka
		vilken vilket är`,
	"tr": `acaba ama bana ben bir bu bunu çok da daha de değil en gibi için ile ise ki mı mi mu mü nasıl ne neden nerede o olan
		şu ve veya var ya`,
}

// stopWords returns the stop words of a language: none where it has no list.
func stopWords(code string) map[string]bool {
	switch code {
	case "nb", "nn":
		code = "no"
	}
	words := map[string]bool{}
	for _, w := range strings.Fields(stopLists[code]) {
		words[w] = true
	}
	return words
}
